"""``tersely compress``: a file to an archive."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.output import ByteCount, json_option, print_json, shown_progress, size

if TYPE_CHECKING:
    from tersely.compress.archive import Report


def archive_options(command: Any) -> Any:
    """The options that compressing and decompressing share."""
    options = (
        click.option("--out", metavar="FILE", help="Where to; - is standard output."),
        click.option("--force", is_flag=True, help="Replace --out if it exists."),
        click.option(
            "--threads",
            type=click.IntRange(1, 256),
            default=1,
            show_default=True,
            help="Segments that are worked on at a time, each with the whole --memory.",
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("compress", short_help="Compress a file without loss, to much less than xz.")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--memory",
    type=ByteCount(),
    default="256MiB",
    show_default=True,
    help="What the model may remember: a power of two, 1MiB to 1GiB. decompress takes as much.",
)
@archive_options
def command(source: str, out: str | None, memory: int, threads: int, force: bool, as_json: bool) -> None:
    """Compress FILE, of any bytes, to FILE.tersely; FILE is kept. - is standard input, which goes to standard output.

    A model learns the file while it is written: made for text, code and the like, it is slow (two seconds for a megabyte, and
    decompressing takes as long), and much smaller than what xz or brotli give. With one thread the archive is smallest; more
    cut it into segments of 16 MiB that are learned separately.

    \b
    Examples:
      tersely compress corpus.jsonl
      tersely compress corpus.jsonl --threads 8 --memory 64MiB --out corpus.small
      tar c src | tersely compress - > src.tar.tersely
    """  # noqa: D301 -- click wants the character, not the two signs
    from tersely.compress.archive import compress_file

    refuse_json_on_stdout(out or ("-" if source == "-" else ""), as_json)
    started = time.perf_counter()
    with shown_progress("compressing") as show:
        tell = None if show is None else lambda done, total: show("", done, total)
        report, place = compress_file(
            source, out, memory=memory, threads=threads, force=force, on_progress=tell
        )
    print_report(report, place, time.perf_counter() - started, as_json)


def refuse_json_on_stdout(out: str, as_json: bool) -> None:
    """One stream cannot hold both the file and a report on it."""
    if as_json and out == "-":
        raise click.UsageError("--json prints on standard output, where the file goes: give --out FILE")


def print_report(report: Report, place: str, seconds: float, as_json: bool) -> None:
    """One line, or one JSON object; nothing where the file itself went to standard output."""
    if as_json:
        figures = {
            "size": report.size,
            "archived": report.archived,
            "blocks": report.blocks,
            "segments": report.segments,
        }
        print_json({"out": place, **figures, "seconds": round(seconds, 3)})
    elif place != "-":
        part = f", {report.archived / report.size:.1%}" if report.size else ""
        click.echo(f"{Path(place)}: {size(report.size)} in an archive of {size(report.archived)}{part}")
