"""``tersely decompress``: an archive back to the file."""

from __future__ import annotations

import time

import click

from tersely.cli.compress import archive_options, print_report, refuse_json_on_stdout
from tersely.cli.output import shown_progress


@click.command("decompress", short_help="Bring back a file that was compressed.")
@click.argument("source", metavar="ARCHIVE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@archive_options
def command(source: str, out: str | None, threads: int, force: bool, as_json: bool) -> None:
    """Bring back what 'tersely compress' made an ARCHIVE of, which is kept: FILE.tersely becomes FILE.

    It takes the memory and the time that compressing took; --threads helps where compressing had some. An archive that is
    damaged, cut off or none ends with exit code 4 and a sentence that names the block and the byte, and no file is left.

    \b
    Examples:
      tersely decompress corpus.jsonl.tersely
      tersely decompress src.tar.tersely --out - | tar x
    """  # noqa: D301 -- click wants the character, not the two signs
    from tersely.compress.archive import decompress_file

    refuse_json_on_stdout(out or ("-" if source == "-" else ""), as_json)
    started = time.perf_counter()
    with shown_progress("decompressing") as show:
        tell = None if show is None else lambda done, total: show("", done, total)
        report, place = decompress_file(source, out, threads=threads, force=force, on_progress=tell)
    print_report(report, place, time.perf_counter() - started, as_json)
