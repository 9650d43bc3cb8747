"""``tersely prepare``: the main job."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.convert import conversion_progress
from tersely.cli.inputs import input_format_option, last_change, text_field_option
from tersely.cli.output import ByteCount, count, json_option, progress_bar, tell_passed_over
from tersely.cli.prepared import show_estimate, tell_result, tell_share, verdict
from tersely.cli.running import (
    command_of,
    executor_of,
    processors,
    resumable,
    running_options,
    share_of,
    start_early,
)
from tersely.errors import UsageError, choose
from tersely.load import FORMS

if TYPE_CHECKING:
    from tersely.corpus import Source
    from tersely.corpus.prepare import Progress
    from tersely.corpus.records import Records


@click.command("prepare", short_help="Tokenize and pack documents into Arrow shards.")
@click.argument("inputs", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to make, or one whose run was stopped.")
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
    "--format",
    "formats",
    metavar="FORMAT,...",
    default="arrow",
    show_default=True,
    help="Also write these layouts into --out, as tersely convert does: megatron, memmap, mds, litdata.",
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
    help="What happens to a document longer than a row; concat always splits.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides the order of the rows.")
@click.option("--bos/--no-bos", default=False, show_default=True, help="Open each document with the bos id.")
@click.option(
    "--eos/--no-eos", default=True, show_default=True, help="Close each document with the eos id, if any."
)
@click.option(
    "--words", is_flag=True, help="Also write the column word_lengths, for a tokenizer that knows words."
)
@text_field_option
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    help="Keep this JSON field or Parquet column of each document in documents-*.arrow; repeatable.",
)
@input_format_option
@click.option(
    "--records",
    "kind",
    type=click.Choice(["text", "prompt-completion", "messages"]),
    default="text",
    show_default=True,
    help="What JSON lines and Parquet hold: a text; prompt and completion; or messages. The last two give the column "
    "labels, by which only completions and the assistant's turns are trained on.",
)
@click.option(
    "--chat-template",
    type=click.Path(path_type=Path),
    help="File, or tokenizer's folder, with the template for messages; by default that beside --tokenizer.",
)
@click.option(
    "--on-invalid",
    type=click.Choice(["quarantine", "replace", "bytes"]),
    default="quarantine",
    show_default=True,
    help="What becomes of a document that is not UTF-8; bytes keeps it as it is, for byte tokenizers.",
)
@click.option(
    "--max-doc-bytes",
    type=ByteCount(),
    help="Longer records are quarantined; by default 256MiB, of FASTA 1GiB.",
)
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
@click.option(
    "--salvage",
    is_flag=True,
    help="Keep what comes before the break of an input that breaks off, such as a cut archive.",
)
@click.option("--fail-empty", is_flag=True, help="Exit with 3 if there are no documents.")
@click.option(
    "--allow-changed",
    is_flag=True,
    help="If inputs changed since the run was stopped, do again what was made of them.",
)
@running_options
@click.option("--dry-run", is_flag=True, help="Read a sample and estimate; write nothing.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    inputs: tuple[str, ...],
    out: Path | None,
    spec: str,
    text_field: str,
    fields: tuple[str, ...],
    input_format: str,
    kind: str,
    chat_template: Path | None,
    on_invalid: str,
    max_doc_bytes: int | None,
    sample: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Tokenize INPUTS, pack their documents into rows and write Arrow shards to --out.

    INPUTS are files (.jsonl, .txt, .parquet, .fasta; all but .parquet also .gz, .zst or .bz2), folders of such files,
    or - for JSON lines on standard input. The folder opens with datasets.load_from_disk and tersely.pack.PackedDataset. A
    record that is no document is put into quarantine.jsonl with its place and the reason. A job that was stopped, in
    whatever way, goes on when the same command is run again.

    \b
    Examples:
      tersely prepare --sample --out prepared/
      tersely prepare corpus/ --tokenizer gpt2/tokenizer.json --pack 4096 --out out/
      zcat big.jsonl.gz | tersely prepare - --out out/
    """  # noqa: D301 -- click wants the character, not the two signs
    if out is None and not dry_run:
        raise click.UsageError("--out is missing: name the folder to make (or use --dry-run)")
    if sample and inputs:
        raise click.UsageError(
            "--sample and INPUTS exclude each other: name files, or use the built-in corpus"
        )
    if not dry_run and "-" not in inputs:
        start_early(options["engine"])
    from tersely.corpus import SampleSource, find_sources

    for folder in inputs:
        if out is not None and Path(folder).is_dir() and out.resolve().is_relative_to(Path(folder).resolve()):
            raise UsageError(
                f"--out {out} lies in the input {folder}, so that it would be read too: choose another"
            )
    if sample:
        sources: list[Source] = [SampleSource()]
        passed_over: list[Path] = []
    else:
        sources, passed_over = find_sources(
            inputs,
            text_field,
            input_format,
            fields=fields,
            on_invalid=on_invalid,
            max_record_bytes=max_doc_bytes,
            records=_records(kind, chat_template, spec, inputs),
        )
    tell_passed_over(passed_over)
    options["formats"] = _formats(options["formats"])
    options["share"] = share_of(options["share"])
    if dry_run or out is None:
        return show_estimate(sources, out, spec, options, as_json)
    return _run(sources, out, spec, options | {"command": command_of(context)}, as_json)


def _records(kind: str, chat_template: Path | None, spec: str, inputs: tuple[str, ...]) -> Records | None:
    """What the inputs hold, None if it is a text."""
    if kind == "text":
        if chat_template:
            raise UsageError("--chat-template puts messages into words: use it with --records messages")
        return None
    from tersely.corpus.records import RecordKind, read_chat_template, records_of
    from tersely.load import load_tokenizer

    beside = Path(spec) if Path(spec).is_dir() else Path(spec).parent if Path(spec).is_file() else None
    template = None
    if chat_template or (beside and kind == "messages"):
        template = read_chat_template(chat_template or beside or Path())
    return records_of(RecordKind(kind), load_tokenizer(spec), chat_template=template, now=last_change(inputs))


def _run(sources: list[Source], out: Path, spec: str, options: dict[str, Any], as_json: bool) -> int:
    from tersely.corpus import convert, prepare

    max_bad, fail_empty = options.pop("max_bad"), options.pop("fail_empty")
    formats = [name for name in options.pop("formats") if name != "arrow"]
    share = options.pop("share")
    workers = options.pop("workers") or processors()
    threads = options.pop("threads") or max(1, processors() // workers)
    executor = executor_of(options.pop("engine"), workers)
    started = time.perf_counter()
    with resumable(), redirect_stdout(sys.stderr), _shown_progress() as on_progress:  # Ray writes to stdout
        manifest = prepare(
            sources,
            out,
            spec,
            **options,
            executor=executor,
            threads=threads,
            share=share,
            on_progress=on_progress,
        )
    if manifest is None:
        return tell_share(out, share, as_json)
    seconds = time.perf_counter() - started
    speed = {
        "seconds": round(seconds, 3),
        "megabytes_per_second": float(f"{manifest.bytes / 1e6 / seconds:.3g}"),
    }
    tell_result(manifest, out, speed, as_json)
    if formats:
        with resumable(), conversion_progress() as on_conversion:
            convert(out, formats, on_progress=on_conversion)
    return verdict(manifest, out, options["salvage"], max_bad, fail_empty)


def _formats(given: str) -> list[str]:
    """The names in ``--format``; raises UsageError for one that is none."""
    from tersely.corpus import Format

    names = [name.strip() for name in given.split(",") if name.strip()]
    return [name if name == "arrow" else choose(Format, name) for name in names]


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
