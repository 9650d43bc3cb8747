"""What commands print: one JSON object, or a table; and progress, on a terminal only."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

    from tersely.corpus.sources import Source

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of a table."
)


class ByteCount(click.ParamType):
    """An option that is a number of bytes: 500, 16MB, 1.5GB, which are powers of ten, or 256MiB."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, at least 1."""
        found = re.fullmatch(r"([0-9.]+) ?([kMGT]?|[KMG]i)B?", str(value))
        try:
            number = int(float(found[1]) * _UNITS[found[2]]) if found else 0
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is no number of bytes: write 500kB, 16MB or 1GB", param, ctx)
        return number


def print_json(result: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(result, indent=2))


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns on stdout; plain text where stdout is no terminal."""
    if not sys.stdout.isatty():
        width = max(len(name) for name, _ in rows)
        click.echo(title)
        for name, value in rows:
            click.echo(f"  {name:{width}}  {value}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column(style="cyan")
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, Text(value))
    Console().print(table)


def print_columns(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with named columns on stdout, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    click.echo(title)
    for row in (head, *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
        ]
        click.echo(f"  {'  '.join(cells)}".rstrip())


def tell_fault(source: Source, rejected: int, fault: str) -> None:
    """What of a source is no document, on stderr."""
    if fault:
        click.echo(f"Broke off, so only what came before was read: {source.name}: {fault}", err=True)
    if rejected:
        click.echo(
            f"Note: {count(rejected)} records of {source.name} are no documents and were passed over.",
            err=True,
        )


def tell_passed_over(paths: Sequence[Path]) -> None:
    """Says on stderr which files of folders were not taken."""
    if paths:
        endings = ", ".join(sorted({path.suffix or path.name for path in paths})[:8])
        click.echo(f"Note: {len(paths)} files of other kinds were passed over ({endings}).", err=True)


@contextmanager
def progress_bar(description: str, unit: str = "bytes") -> Generator[Progress]:
    """A rich progress bar on stderr, shown only if that is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (
        TextColumn(description),
        BarColumn(),
        amount,
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        yield bar


@contextmanager
def shown_progress(
    description: str, unit: str = "bytes"
) -> Generator[Callable[[str, int, int], None] | None]:
    """A bar for work in several steps: call it with the step, how much is done, and of how much. None, which costs nothing,
    where nobody watches.
    """
    if not sys.stderr.isatty():
        yield None
        return
    with progress_bar(description, unit) as bar:
        task = bar.add_task("", total=None, note="")

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, note=what)

        yield show


def count(number: float) -> str:
    """A whole number with thousands apart."""
    return f"{number:,.0f}"


def share(part: float) -> str:
    """A share of one as a percentage."""
    return f"{100 * part:.3f} %"


def size(number: float) -> str:
    """Bytes in the unit that suits."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
