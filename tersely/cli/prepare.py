"""``tersely prepare``: the main job."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.inputs import input_format_option, text_field_option
from tersely.cli.output import (
    count,
    json_option,
    print_json,
    print_table,
    progress_bar,
    share,
    size,
    tell_passed_over,
)
from tersely.errors import UsageError
from tersely.load import FORMS

if TYPE_CHECKING:
    from tersely.corpus import Source
    from tersely.corpus.prepare import Progress
    from tersely.shards import Manifest

_QUARANTINED = 3


@click.command("prepare", short_help="Tokenize and pack documents into Arrow shards.")
@click.argument("inputs", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to make; it must not exist or be empty.")
@click.option(
    "--tokenizer",
    "spec",
    default="bytes",
    show_default=True,
    help=f"One of: {FORMS}.",
)
@click.option(
    "--allow-special",
    "allowed_specials",
    multiple=True,
    metavar="TOKEN",
    help="A special token that text may spell; may be given several times. All others stay text.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads that tokenize; by default one for each processor."
)
@click.option(
    "--pack",
    "capacity",
    type=click.IntRange(min=0),
    default=8192,
    show_default=True,
    help="Tokens in a packed row; 0 writes a row for each document.",
)
@click.option(
    "--strategy",
    type=click.Choice(["best-fit", "first-fit", "next-fit", "concat", "mix"]),
    default="best-fit",
    show_default=True,
    help="How documents are put into rows; mix composes each row as a shuffled corpus would.",
)
@click.option(
    "--overflow",
    type=click.Choice(["split", "truncate", "drop"]),
    default="split",
    show_default=True,
    help="What happens to a document longer than a row.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides the order of the rows.")
@click.option("--bos/--no-bos", default=False, show_default=True, help="Open each document with the bos id.")
@click.option(
    "--eos/--no-eos", default=True, show_default=True, help="Close each document with the eos id, if any."
)
@text_field_option
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    help="Keep this JSON field or Parquet column of each document in documents.arrow; repeatable.",
)
@input_format_option
@click.option(
    "--sample", is_flag=True, help="Use the built-in corpus: Python's own source files and docstrings."
)
@click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Share of records that may be quarantined before the exit code is 3.",
)
@click.option("--dry-run", is_flag=True, help="Read a sample and estimate; write nothing.")
@json_option
def command(
    inputs: tuple[str, ...],
    out: Path | None,
    spec: str,
    text_field: str,
    fields: tuple[str, ...],
    input_format: str,
    sample: bool,
    max_bad: float,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Tokenize INPUTS, pack their documents into rows and write Arrow shards to --out.

    INPUTS are files (.jsonl, .txt, .parquet, .fasta; all but .parquet also .gz, .zst or .bz2), folders of such files,
    or - for JSON lines on standard input. The folder opens with datasets.load_from_disk and tersely.pack.PackedDataset. A
    record that is no document is put into quarantine.jsonl with its place and the reason.

    \b
    Examples:
      tersely prepare --sample --out prepared/
      tersely prepare corpus/ --tokenizer gpt2/tokenizer.json --pack 4096 --out out/
      zcat big.jsonl.gz | tersely prepare - --out out/
    """  # noqa: D301 -- click wants the character, not the two signs
    from tersely.corpus import SampleSource, find_sources

    if out is None and not dry_run:
        raise click.UsageError("--out is missing: name the folder to make (or use --dry-run)")
    if sample and inputs:
        raise click.UsageError(
            "--sample and INPUTS exclude each other: name files, or use the built-in corpus"
        )
    if sample:
        sources: list[Source] = [SampleSource()]
        passed_over: list[Path] = []
    else:
        sources, passed_over = find_sources(inputs, text_field, input_format, fields=fields)
    tell_passed_over(passed_over)
    if dry_run or out is None:
        return _dry_run(sources, spec, options, as_json)
    return _run(sources, out, spec, options, max_bad, as_json)


def _run(
    sources: list[Source], out: Path, spec: str, options: dict[str, Any], max_bad: float, as_json: bool
) -> int:
    from tersely.corpus import prepare

    started = time.perf_counter()
    with _shown_progress() as on_progress:
        manifest = prepare(sources, out, spec, **options, on_progress=on_progress)
    seconds = time.perf_counter() - started
    speed = {"seconds": round(seconds, 3), "megabytes_per_second": round(manifest.bytes / 1e6 / seconds, 2)}
    broken = [source.name for source in manifest.sources if not source.complete]
    if as_json:
        print_json({"out": str(out), "broken_off": broken} | speed | manifest.to_dict())
    else:
        print_table(f"Prepared {out}", _summary(manifest, speed))
    if manifest.quarantined:
        click.echo(
            f"{count(manifest.quarantined)} records were quarantined: see {out / 'quarantine.jsonl'}",
            err=True,
        )
    for name in broken:
        click.echo(f"{name} broke off before its end: only what came before is in {out}", err=True)
    if not manifest.documents:
        click.echo(f"Warning: there were no documents; {out} is a valid, empty corpus", err=True)
    if manifest.quarantined > max_bad * manifest.records_in or broken:
        return _QUARANTINED
    return 0


def _summary(manifest: Manifest, speed: dict[str, float]) -> list[tuple[str, str]]:
    tokenizer = manifest.tokenizer
    return [
        ("documents", count(manifest.documents)),
        ("bytes", count(manifest.bytes)),
        ("tokens", f"{count(manifest.tokens)} ({manifest.dtype}, vocabulary {count(tokenizer.vocab_size)})"),
        ("bytes per token", f"{manifest.bytes / manifest.tokens:.3f}" if manifest.tokens else "-"),
        ("rows", count(manifest.rows)),
        ("packing efficiency", share(manifest.efficiency) if manifest.packing.capacity else "not packed"),
        ("split documents", count(manifest.split_documents)),
        ("truncated tokens", count(manifest.truncated_tokens)),
        ("dropped documents", count(manifest.dropped_documents)),
        ("empty records", count(manifest.empty)),
        ("quarantined records", count(manifest.quarantined)),
        ("seconds", f"{speed['seconds']:.2f}"),
        ("MB/s", f"{speed['megabytes_per_second']:.1f}"),
    ]


def _dry_run(sources: list[Source], spec: str, options: dict[str, Any], as_json: bool) -> int:
    from dataclasses import asdict

    from tersely.corpus import estimate
    from tersely.load import load_tokenizer

    tok = load_tokenizer(
        spec, threads=options.pop("threads"), allowed_specials=options.pop("allowed_specials") or None
    )
    if options["bos"] and tok.bos_id is None:
        raise UsageError(f"the tokenizer {spec} has no bos id: leave --bos out")
    options.pop("seed")
    figures = estimate(sources, tok, **options)
    if as_json:
        print_json({"dry_run": True} | asdict(figures))
        return 0
    rows = [
        ("sampled", share(figures.sampled_share)),
        ("documents", count(figures.documents)),
        ("bytes", count(figures.bytes)),
        ("tokens", count(figures.tokens)),
        ("bytes per token", f"{figures.bytes_per_token:.3f}"),
        ("rows", count(figures.rows)),
        ("dtype", figures.dtype),
        ("size on disk", size(figures.output_bytes)),
        ("seconds", f"{figures.seconds:.1f}"),
        ("bad records", share(figures.bad_share)),
    ]
    print_table("Estimate (nothing was written)", rows)
    return 0


@contextmanager
def _shown_progress() -> Generator[Any]:
    """A progress bar by bytes read; None, which costs nothing, where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    with progress_bar("preparing") as bar:
        task = bar.add_task("", total=None, note="")

        def show(now: Progress) -> None:
            note = f"{count(now.documents)} documents, {count(now.tokens)} tokens"
            note += f", {count(now.quarantined)} quarantined" if now.quarantined else ""
            bar.update(task, completed=now.bytes_read, total=now.bytes_total or None, note=note)

        yield show
