r"""A network is trained against a frozen model: texts, and for each batch another tokenizer, whose rows the network makes.

    texts -> passages --> tokenizers drawn, in worker processes --> batches --> rows --> frozen model --> loss
                     \-> held out, with three tokenizers of their own: is it learned, or known by heart?

In the folder: config.json and model.safetensors in the end, log.jsonl and loss.svg from the start, checkpoint.safetensors between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tersely.embeddings.transfer.hypernet.batches import Batches, Frequencies, Source
from tersely.embeddings.transfer.hypernet.frozen import Frozen
from tersely.embeddings.transfer.hypernet.network import Hypernet, HypernetConfig
from tersely.embeddings.transfer.hypernet.run import Run, TrainingStep
from tersely.embeddings.transfer.hypernet.surface import SurfaceReader
from tersely.embeddings.transfer.hypernet.vocabularies import Vocabularies, Vocabulary
from tersely.embeddings.transfer.passages import passages
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.quality import generates
from tersely.embeddings.transfer.tables import check_model
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import EmbeddingError, TokenizeError, UsageError

_SAMPLE = 8_000_000  # characters that parts of words are counted in
_COUNTED = 400_000  # characters in which tokens are counted for each batch of a decoder
_HELD_OUT = 1_000_000  # characters of held-out passages
_UNSEEN_SIZE = 8192  # tokens of the vocabularies for held-out passages


def train_hypernet(
    model: Any,
    tokenizer: Any,
    texts: Iterable[str],
    out: Path | str,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int = 64,
    width: int | None = None,
    learning_rate: float = 5e-4,
    classes: int = 8192,
    bases: int = 12,
    every: int = 500,
    device: str | torch.device | None = None,
    workers: int = 0,
    seed: int = 0,
    resume: bool = False,
    on_progress: Callable[[TrainingStep], None] | None = None,
) -> Hypernet:
    """Trains a network that makes rows for any new vocabulary of a model; the model stays as it is.

    On a CPU a run that goes on from its checkpoint comes to the same weights as one that was not broken off, if its length is
    given in steps.

    Args:
        model: an encoder or decoder of transformers; it is moved to the device.
        tokenizer: its fast tokenizer.
        texts: like those that the swapped models will see. A tenth of their passages is held out, to measure on.
        out: the folder to make.
        steps: batches to train on; or
        minutes: time to take, with all that comes before the first batch.
        batch: texts of a batch.
        width: of the network; by default twice the dimension of a row, between 256 and 1024.
        learning_rate: its peak; it rises for the first steps, then falls along a cosine.
        classes: tokens of a drawn vocabulary that the softmax of a decoder runs over, besides those of the batch. They are drawn
            evenly and weighted for those that were not.
        bases: BPEs that are trained to draw from.
        every: steps from one measurement on held-out passages to the next; there is a checkpoint too, and every two minutes.
        device: where the model runs; by default a GPU if there is one.
        workers: processes that make batches; 0 makes them in this one.
        seed: decides the weights at the start and all batches.
        resume: go on from the checkpoint in ``out``; model, tokenizer and texts must be the same as before.
        on_progress: is told of each step.

    Returns:
        The network, in evaluation mode, as it was saved.

    Raises:
        UsageError: neither steps nor minutes, or both, or no text.
        EmbeddingError: the model cannot be served, ``out`` is in use, or its checkpoint is of another run.
        TokenizeError: the tokenizer is of no kind that can be read.
    """
    started = time.monotonic()
    _check(tokenizer, steps, minutes, Path(out), resume)
    view = ByteView.of(tokenizer)
    check_model(model, len(view))
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    frozen, decoder = Frozen(model, ~view.special), generates(model)
    network = _network(frozen, view, width, seed, decoder).to(model.device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    settings = {"batch": batch, "classes": classes, "bases": bases, "seed": seed, "steps": steps}
    settings |= {"learning_rate": learning_rate, "width": network.config.width}
    run = Run(frozen, network, optimizer, Path(out), settings, minutes, every, on_progress)
    run.begin(resume, started)
    learned, held_out, vocabularies, unseen = _material(texts, bases, seed)
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    source = Source(tokenizer, decoder, longest - 2)
    reader = SurfaceReader(view, Decomposition(tokenizer, view))
    frequencies = _frequencies(source, learned, len(view), seed) if decoder else None
    plan: Any = dict(batch=batch, classes=classes if decoder else 0, seed=seed, frequencies=frequencies)
    trained = Batches(learned, source, reader, vocabularies, **plan)
    measured = Batches(held_out, source, reader, unseen, **plan)
    with frozen.still():
        run.train(trained, [measured[number] for number in range(2 * len(unseen))], workers)
    return network.eval()


def _check(tokenizer: Any, steps: int | None, minutes: float | None, out: Path, resume: bool) -> None:
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise TokenizeError(
            "the tokenizer must tell its special tokens: load it with transformers' AutoTokenizer"
        )
    if (steps is None) == (minutes is None):
        raise UsageError("a run is as long as steps= or minutes= says: give one of them")
    if (steps if steps is not None else minutes or 0) <= 0:
        raise UsageError("a run of no length trains nothing: give steps or minutes above zero")
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EmbeddingError(f"{out} exists and is not empty: name a folder to make, or go on with resume")


def _network(frozen: Frozen, view: ByteView, width: int | None, seed: int, counted: bool) -> Hypernet:
    """The network before training, its weights decided by the seed."""
    dims = frozen.dims
    width = width or min(1024, max(256, 2 * max(dims.values()) // 64 * 64))
    if width % 64:
        raise UsageError(f"the width {width} is no multiple of 64: give one that is")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Hypernet(
            HypernetConfig(dims=dims, width=width, fingerprint=view.fingerprint, counted=counted)
        )
    for name in dims:
        network.measure(name, frozen.table(name).cpu())
    return network


def _material(
    texts: Iterable[str], bases: int, seed: int
) -> tuple[list[str], list[str], Vocabularies, list[Vocabulary]]:
    """Passages to learn from and others, tokenizers to draw from, and some for the others."""
    learned, held_out = list[str](), list[str]()
    for passage, out in passages(texts):
        (held_out if out else learned).append(passage)
    if not held_out:
        raise UsageError("the corpus is too small to hold a tenth out: give at least ten passages")
    generator = np.random.default_rng([seed, 1 << 40])
    vocabularies = Vocabularies(_some(learned, _SAMPLE, generator), generator, bases)
    held_out = _some(held_out, _HELD_OUT, generator)
    return learned, held_out, vocabularies, Vocabularies(held_out, generator, 1).each(_UNSEEN_SIZE, generator)


def _frequencies(source: Source, texts: list[str], size: int, seed: int) -> Frequencies:
    """What tells how often tokens occur, in some of the texts."""
    return Frequencies(source, _some(texts, _COUNTED, np.random.default_rng([seed, 1 << 41])), size)


def _some(texts: list[str], size: int, generator: np.random.Generator) -> list[str]:
    """Texts drawn until they have so many characters."""
    found = list[str]()
    for place in generator.permutation(len(texts)).tolist():
        found.append(texts[place])
        size -= len(texts[place])
        if size < 0:
            break
    return found
