"""``tersely inspect``: what is in a prepared folder; with ``--compare``, what tokenizers make of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tersely.cli.inputs import input_format_option, text_field_option
from tersely.cli.output import ByteCount, count, json_option, print_json, print_table, share, size

_BAR = 40


@click.command("inspect", short_help="Show what a prepared folder holds, or compare tokenizers.")
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--compare",
    "specs",
    metavar="SPEC,SPEC,...",
    help="Compare these tokenizers (named as for prepare) on INPUTS, which are then those of prepare.",
)
@click.option(
    "--by", metavar="FIELD", help="Figures also by this JSON field or Parquet column, such as lang."
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the comparison as one HTML page."
)
@click.option(
    "--pack",
    "capacity",
    type=click.IntRange(min=1),
    default=8192,
    show_default=True,
    help="Tokens in a packed row.",
)
@click.option(
    "--sample-bytes",
    type=ByteCount(),
    default="16MB",
    show_default=True,
    help="Text that is measured, drawn from all inputs and groups.",
)
@click.option(
    "--layers", type=click.IntRange(min=1), default=12, show_default=True, help="Of the model to be trained."
)
@click.option(
    "--hidden", type=click.IntRange(min=1), default=768, show_default=True, help="Width of that model."
)
@text_field_option
@input_format_option
@json_option
def command(inputs: tuple[str, ...], specs: str | None, as_json: bool, **options: Any) -> int:
    """Show what a prepared folder holds: counts, tokenizer, packing, sources, and how long its documents are.

    With --compare, measure tokenizers on raw files instead: bytes per token, tokens per word, the rows they make and the FLOPs
    of training on them, over all, by input and by field.

    \b
    Examples:
      tersely inspect prepared/
      tersely inspect news.jsonl --compare bytes,gpt2/tokenizer.json --by lang --html page.html
    """  # noqa: D301 -- click wants the character, not the two signs
    if specs is not None:
        from tersely.cli.comparison import run_comparison

        return run_comparison(
            inputs, [spec.strip() for spec in specs.split(",") if spec.strip()], as_json=as_json, **options
        )
    if len(inputs) != 1:
        raise click.UsageError("inspect shows one prepared folder: name one, or use --compare on files")
    if options["by"] or options["html"]:
        raise click.UsageError("--by and --html are of a comparison: name tokenizers with --compare")
    return _show(Path(inputs[0]), as_json)


def _show(folder: Path, as_json: bool) -> int:
    from tersely.shards import ShardFolder

    opened = ShardFolder(folder)
    manifest = opened.manifest
    lengths = opened.document_lengths
    histogram = _histogram(lengths)
    if as_json:
        print_json(manifest.to_dict() | {"document_tokens": {"histogram": histogram} | _percentiles(lengths)})
        return 0
    tokenizer, packing = manifest.tokenizer, manifest.packing
    specials = " ".join(name for name, used in (("bos", tokenizer.bos), ("eos", tokenizer.eos)) if used)
    rows = [
        ("documents", count(manifest.documents)),
        ("bytes", count(manifest.bytes)),
        ("tokens", count(manifest.tokens)),
        ("rows", count(manifest.rows)),
        ("capacity", count(packing.capacity) if packing.capacity else "a row for each document"),
        ("strategy", f"{packing.strategy}, {packing.overflow}" if packing.capacity else "-"),
        ("packing efficiency", share(manifest.efficiency) if packing.capacity else "-"),
        ("tokenizer", f"{tokenizer.spec} ({count(tokenizer.vocab_size)} ids, {tokenizer.fingerprint[:12]})"),
        ("added to documents", specials or "nothing"),
        ("stored as", manifest.dtype),
        ("shards", f"{len(manifest.shards)}, {size(sum(shard.size for shard in manifest.shards))}"),
        ("empty, quarantined", f"{count(manifest.empty)}, {count(manifest.quarantined)}"),
        ("fields of documents", ", ".join(opened.document_fields.column_names) or "-"),
        *((f"tokens, {name}", count(value)) for name, value in _percentiles(lengths).items()),
    ]
    print_table(f"{folder} (tersely {manifest.tersely})", rows)
    _print_histogram(histogram)
    for source in manifest.sources:
        broken = "" if source.complete else ", broke off"
        bad = f", {count(source.quarantined)} quarantined" if source.quarantined else ""
        click.echo(f"  {source.name}: {count(source.documents)} documents{bad}{broken}")
    return 0


def _percentiles(lengths: Any) -> dict[str, int]:
    import numpy as np

    if not len(lengths):
        return {}
    marks = np.percentile(lengths, [50, 90, 99, 100])
    return {name: round(float(mark)) for name, mark in zip(("p50", "p90", "p99", "max"), marks, strict=True)}


def _histogram(lengths: Any) -> list[tuple[int, int, int]]:
    """How many documents have from..to-1 tokens, in steps of powers of two."""
    import numpy as np

    if not len(lengths):
        return []
    top = int(lengths.max()).bit_length()
    edges = [1 << power for power in range(top + 1)]
    counts, _ = np.histogram(lengths, edges)
    first = int(np.flatnonzero(counts)[0])
    return [(edges[i], edges[i + 1], int(counts[i])) for i in range(first, len(counts))]


def _print_histogram(histogram: list[tuple[int, int, int]]) -> None:
    largest = max((number for _, _, number in histogram), default=1)
    for start, _, number in histogram:
        bar = "#" * round(_BAR * number / largest) or ("." if number else "")
        click.echo(f"  {start:>9,} tokens  {bar:{_BAR}}  {number:,}")
