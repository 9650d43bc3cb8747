"""``tersely prefill``: packed prefill of a model on a file of prompts, measured against padding."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.inputs import input_format_option, text_field_option
from tersely.cli.output import (
    count,
    json_option,
    print_columns,
    print_json,
    shown_progress,
    size,
)
from tersely.errors import PackError

if TYPE_CHECKING:
    from tersely.pack.inference import PrefillComparison, PrefillReport


@click.command("prefill", short_help="Prefill prompts without padding, and measure what it gains.")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("prompts", nargs=-1, required=True)
@click.option(
    "--compare", is_flag=True, help="Also run padded, length-sorted and one by one, and compare answers."
)
@click.option(
    "--tokenizer", "spec", metavar="SPEC", help="Named as for prepare; by default the one in MODEL's folder."
)
@click.option(
    "--random-weights",
    is_flag=True,
    help="Take only the shape of the model, from its config.json; for measurements.",
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="By default as stored.")
@click.option("--device", help="Such as cpu or cuda:1; by default a GPU if there is one.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Prompts of a padded batch.",
)
@click.option(
    "--token-budget",
    type=click.IntRange(min=1),
    help="Tokens that go through the model at once when packed; by default 16,384 on a GPU, 1,024 on a CPU.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Take the first prompts only.")
@text_field_option
@input_format_option
@json_option
def command(
    model: Path, prompts: tuple[str, ...], compare: bool, spec: str | None, limit: int | None, text_field: str,
    input_format: str, batch_size: int, token_budget: int | None, as_json: bool, **loading: Any,
) -> int:  # fmt: skip
    """Run the prompts in files through a model of transformers without padding, and say what that cost; with --compare, what
    padding would have cost: time to the first token, memory, and whether the answers agree.

    MODEL is a folder as save_pretrained writes it. Exits with 1 if answers differ by more than rounding.

    \b
    Examples:
      tersely prefill llama/ prompts.jsonl --compare
      tersely prefill llama/ prompts.jsonl --compare --random-weights --tokenizer bytes --limit 64
    """  # noqa: D301 -- click wants the character, not the two signs
    from tersely.pack.inference import compare_prefill, prefill

    ids = _ids(model, prompts, spec, text_field, input_format, limit)
    loaded = _load(model, **loading)
    if not compare:
        report = prefill(loaded, ids, token_budget=token_budget).report
        if as_json:
            print_json(_report(report))
        else:
            click.echo(str(report))
        return 0
    with shown_progress("prefill", unit="runs") as on_progress:
        result = compare_prefill(
            loaded, ids, batch_size=batch_size, token_budget=token_budget, on_progress=on_progress
        )
    if as_json:
        ways = [dataclasses.asdict(way) for way in result.ways]
        print_json({"agrees": result.agrees, "report": _report(result.report), "ways": ways})
    else:
        _print(result)
    return 0 if result.agrees else 1


def _ids(
    model: Path, inputs: tuple[str, ...], spec: str | None, text_field: str, input_format: str, limit: int | None
) -> list[Any]:  # fmt: skip
    """Ids of the prompts in files."""
    from tersely.corpus import find_sources
    from tersely.load import load_tokenizer

    stored = model / "tokenizer.json"
    tokenizer = load_tokenizer(spec or str(stored if stored.exists() else model))
    texts = list[Any]()
    sources, _ = find_sources(inputs, text_field, input_format)
    for source in sources:
        for batch in source.batches():
            for bad in batch.rejected:
                raise PackError(f"{source.name}, line {bad.line}: {bad.reason}: mend it, or leave it out")
            if batch.fault:
                raise PackError(f"{source.name} cannot be read to its end: {batch.fault}")
            texts += batch.texts
            if limit is not None and len(texts) >= limit:
                break
    ids = tokenizer.encode(texts[:limit])
    return [ids[i] for i in range(len(ids))]


def _load(path: Path, *, random_weights: bool, dtype: str | None, device: str | None) -> Any:
    """The model, on its device, in evaluation mode.

    Raises:
        PackError: it cannot be loaded.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    wanted = getattr(torch, dtype) if dtype else None
    try:
        if random_weights:
            torch.manual_seed(0)
            model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=wanted)
        else:
            model = AutoModelForCausalLM.from_pretrained(path, dtype=wanted or "auto", local_files_only=True)
        return model.to(place).eval()
    except (OSError, ValueError, RuntimeError) as error:
        detail = str(error).split("\n", 1)[0].rstrip(".")
        raise PackError(
            f"{path} cannot be loaded as a causal language model ({detail}): give a folder that save_pretrained wrote, or "
            "--random-weights with its config.json"
        ) from error


def _report(report: PrefillReport) -> dict[str, Any]:
    return dataclasses.asdict(report) | {"padding_ratio": report.padding_ratio}


def _print(result: PrefillComparison) -> None:
    fastest = min(way.seconds for way in result.ways)
    rows = [
        (
            way.name,
            f"{way.seconds:.3f}",
            f"{way.seconds / fastest:.2f}",
            f"{way.first_token_seconds:.3f}",
            count(way.computed_tokens),
            size(way.cache_bytes),
            "" if way.peak_bytes is None else size(way.peak_bytes),
            f"{way.difference:.1e}",
            f"{way.same_tokens}/{result.report.prompts}",
        )
        for way in result.ways
    ]
    head = (
        "way",
        "seconds",
        "times",
        "mean to first",
        "tokens",
        "caches",
        "peak",
        "difference",
        "same token",
    )
    print_columns(str(result.report), head, rows)
    click.echo(
        "The answers agree."
        if result.agrees
        else "THE ANSWERS DIFFER by more than rounding: this is a fault."
    )
