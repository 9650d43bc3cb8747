"""A model's folder with another tokenizer, written and then read again before it counts as done."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from tersely.embeddings.transfer.checkpoint import Checkpoint
from tersely.embeddings.transfer.learned import Corpus
from tersely.embeddings.transfer.methods import MethodName
from tersely.embeddings.transfer.quality import Pooling
from tersely.embeddings.transfer.report import SwapReport
from tersely.embeddings.transfer.shardwise import swap_files
from tersely.embeddings.transfer.skeleton import class_of, skeleton
from tersely.embeddings.transfer.specials import SpecialTokens
from tersely.embeddings.transfer.swap import Progress, swap_tokenizer
from tersely.embeddings.transfer.tables import check_model, stored_tables
from tersely.errors import EmbeddingError, UsageError
from tersely.tokenize import ByteTokenizer

REPORT, TOKENS = "swap_report.json", "swap_tokens.jsonl"
"""What stands beside the model."""

MODEL = "ids of test texts, special ids and outputs are the same when read again"
FILES = "ids of test texts are the same when read again, and tensors fit the configuration; outputs were not compared"
"""What is said to have been checked, with the model and without."""

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "  Leading blanks, 1234567 digits, don't, and UPPER CASE\n\n\tand a tab",
    "caf\u00e9 na\u00efve \u4e2d\u6587 \u0440\u0443\u0441 \U0001f600",
    "def f(x):\n    return x ** 2  # code",
]
"""What the written folder is tried on."""

_ROUND = 64
"""Bytes of a line of memory."""


def swap_folder(
    model: Path,
    tokenizer: Path | str,
    out: Path,
    method: MethodName | str = MethodName.FIT,
    corpus: Corpus | None = None,
    special_tokens: SpecialTokens | str = SpecialTokens.KEEP,
    *,
    hypernet: Path | None = None,
    donor: Path | None = None,
    distill: int = 0,
    seed: int = 0,
    measure: bool = True,
    on_progress: Progress | None = None,
) -> SwapReport:
    """Swaps the tokenizer of a saved model and saves the result, which is loaded again and compared.

    Without ``measure`` the model is never built: its files are copied with other rows, in the memory of one table, and nothing
    is told of its quality. Ids, and shapes of tensors, are compared all the same; outputs are not.

    Args:
        model: a folder of transformers, with its tokenizer.
        tokenizer: a tokenizer.json, or a folder with one; or the name of our byte tokenizer, as ``load_tokenizer`` takes it.
        out: the folder to make; it must not exist, or be empty.
        method: as for ``swap_tokenizer``, like the next three.
        corpus: texts, or texts by language.
        special_tokens: whose.
        hypernet: the folder of a network.
        donor: the folder of a model that was trained with the tokenizer.
        distill: steps of training.
        seed: of the training.
        measure: whether to build the model, measure it, and compare outputs.
        on_progress: is told each step as it begins.

    Returns:
        The report; it warns if AutoTokenizer would return another tokenizer from the folder.

    Raises:
        UsageError: as by ``swap_tokenizer``, or ``hypernet`` or ``distill`` without ``measure``: both need the model.
        EmbeddingError: a folder cannot be loaded, ``out`` is in use, or what was loaded again is not what was saved.
    """
    if not measure and (hypernet is not None or distill):
        raise UsageError("a network and training need the model: swap without --no-measure (measure=True)")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EmbeddingError(f"{out} exists and is not empty: name a folder to make")
    source, target, tell = load_tokenizer(model), _target(tokenizer), on_progress or (lambda step: None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place:
        made = Path(place) / "made"
        made.mkdir()
        if measure:
            swapped, report = swap_tokenizer(
                load_model(model), source, target, method, corpus, special_tokens,
                hypernet=hypernet, donor=donor, distill=distill, seed=seed, pooling=pooling_of(model),
                on_progress=tell,
            )  # fmt: skip
            tell("writing and reading again")
            swapped.save_pretrained(made)
            report.tokenizer.save_pretrained(made)
            compare(swapped, report.tokenizer, made)
        else:
            report = swap_files(
                model, made, source, target, method, corpus, special_tokens, donor=donor, on_progress=tell
            )
            tell("reading again")
            report.tokenizer.save_pretrained(made)
            compare_files(report.tokenizer, made)
        report = replace(report, checked=MODEL if measure else FILES)
        report.warnings.extend(auto_difference(report.tokenizer, made))
        _save_report(report, made)
        if out.exists():
            out.rmdir()
        made.rename(out)
    return report


def pooling_of(folder: Path) -> Pooling:
    """How a folder of sentence-transformers makes one state of a text's; the mean, where it does not say the first."""
    file = folder / "1_Pooling/config.json"
    try:
        settings = json.loads(file.read_text("utf-8")) if file.exists() else {}
    except ValueError as error:
        raise EmbeddingError(f"{file} is no JSON ({_first_line(error)}): mend it, or take it away") from error
    return Pooling.CLS if settings.get("pooling_mode_cls_token") else Pooling.MEAN


def _target(tokenizer: Path | str) -> Any:
    """The byte tokenizer of a name, if there is no such path."""
    name, _, preset = str(tokenizer).partition(":")
    if name == "bytes" and not Path(tokenizer).exists():
        return ByteTokenizer(preset or "byt5")
    return load_tokenizer(Path(tokenizer))


def _save_report(report: SwapReport, folder: Path) -> None:
    """The figures, and a line for each token."""
    (folder / REPORT).write_text(json.dumps(report.to_dict(), indent=2) + "\n", "utf-8")
    if report.tokens is not None:
        report.tokens.write(folder / TOKENS)


def load_tokenizer(place: Path) -> Any:
    """The fast tokenizer in a folder as transformers loads it, or of a ``tokenizer.json`` with the settings beside it.

    Raises:
        EmbeddingError: there is none.
    """
    try:
        if place.is_dir() and (place / "config.json").exists():
            return AutoTokenizer.from_pretrained(place, local_files_only=True)
        if place.is_dir():
            return PreTrainedTokenizerFast.from_pretrained(place, local_files_only=True)
        return PreTrainedTokenizerFast(tokenizer_file=str(place))
    except Exception as error:
        raise EmbeddingError(
            f"{place} has no fast tokenizer ({_first_line(error)}): give a tokenizer.json, or a folder with one"
        ) from error


def load_model(folder: Path) -> Any:
    """The model of the class that its configuration names, in its own dtype, in evaluation mode.

    Raises:
        EmbeddingError: it cannot be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = class_of(config)
        return kind.from_pretrained(folder, dtype="auto", local_files_only=True).eval()
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        raise EmbeddingError(
            f"{folder} cannot be loaded as a model ({_first_line(error)}): give a folder that save_pretrained wrote"
        ) from error


def compare(model: Any, tokenizer: Any, folder: Path) -> None:
    """Loads a folder and compares with what was saved there: ids of ``TEXTS``, and the model's output for them.

    Raises:
        EmbeddingError: something differs.
    """
    _compare_ids(tokenizer, folder)
    reloaded = (
        type(model).from_pretrained(folder, dtype=model.dtype, local_files_only=True).to(model.device).eval()
    )
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        for part in ("config", "generation_config"):
            ids = [getattr(getattr(one, part, None), name, None) for one in (model, reloaded)]
            if ids[0] != ids[1]:
                raise EmbeddingError(
                    f"{part}.{name} was {ids[0]} and is {ids[1]} when read again: report this"
                )
    _lay_as(model, reloaded)
    training = model.training
    difference = max(
        float((_output(model.eval(), row) - _output(reloaded, row)).abs().max())
        for row in _rows(model, tokenizer)
    )
    model.train(training)
    if difference:
        raise EmbeddingError(
            f"the model that was read again gives other outputs, by {difference:.2g}: report this"
        )


def _lay_as(model: Any, reloaded: Any) -> None:
    """Moves the tensors of the second model to addresses as round as those of the first: those of a file lie where its header
    ends, and products on some CPUs differ in the last bit with the address.
    """
    tensors = [dict([*one.named_parameters(), *one.named_buffers()]) for one in (model, reloaded)]
    for name, found in tensors[1].items():
        if found.device.type == "cpu" and name in tensors[0]:
            away = tensors[0][name].data_ptr() % _ROUND // found.element_size()
            room = torch.empty(found.numel() + _ROUND // found.element_size(), dtype=found.dtype)
            found.data = room[away : away + found.numel()].view(found.shape).copy_(found.data)


def compare_files(tokenizer: Any, folder: Path) -> None:
    """Compares what can be without a model: ids of ``TEXTS``, and whether the tensors are those that the configuration describes.

    Raises:
        EmbeddingError: something differs.
    """
    _compare_ids(tokenizer, folder)
    model = skeleton(folder)
    check_model(model, len(tokenizer), built=False)
    stored_tables(model, Checkpoint.of(folder).shapes())


def _compare_ids(tokenizer: Any, folder: Path) -> None:
    again = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    for text in TEXTS:
        if again(text)["input_ids"] != tokenizer(text)["input_ids"]:
            raise EmbeddingError(
                f"the tokenizer that was read again gives other ids for {text!r}: report this"
            )


def auto_difference(tokenizer: Any, folder: Path) -> list[str]:
    """A warning if AutoTokenizer makes another tokenizer of a folder than was saved there.

    For some model types (qwen2 and its relatives) transformers 5 builds the tokenizer of the type from the saved vocabulary,
    with rules of its own, and says nothing.
    """
    try:
        again = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        differs = [text for text in TEXTS if again(text)["input_ids"] != tokenizer(text)["input_ids"]]
        name = type(again).__name__
    except Exception as error:
        differs, name = TEXTS, f"fails ({_first_line(error)})"
    if not differs:
        return []
    return [
        f"AutoTokenizer makes another tokenizer of this folder ({name}): load it with "
        "transformers.PreTrainedTokenizerFast.from_pretrained, or keep the tokenizer in a folder without config.json"
    ]


def _rows(model: Any, tokenizer: Any) -> list[Any]:
    """The ids of ``TEXTS``, as far as the model's positions go."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    rows = [tokenizer(text)["input_ids"][: max(longest - 2, 1)] for text in TEXTS]
    return [torch.tensor([row], device=model.device) for row in rows if row]


@torch.inference_mode()
def _output(model: Any, row: Any) -> Any:
    """Logits, or the last states of a model without a head."""
    decoding = {"decoder_input_ids": row} if model.config.is_encoder_decoder else {}
    found = model(input_ids=row, attention_mask=torch.ones_like(row), **decoding)
    return found.logits if hasattr(found, "logits") else found.last_hidden_state


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n", 1)[0].rstrip(".")
