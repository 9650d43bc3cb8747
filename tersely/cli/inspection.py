"""What ``tersely inspect`` does with a prepared folder: read it, print its figures, write the page."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tersely.cli.output import (
    count,
    print_columns,
    print_json,
    print_table,
    share,
    shown_progress,
)
from tersely.cli.page import check_page, write_page

if TYPE_CHECKING:
    from tersely.corpus.inspection import Inspection, Lengths, SourceFigures

_WIDTH = 100
_BAR = 40
_SHOWN = 12
"""Sources and reasons that are printed; the page and --json have more."""

_NAME = 30


def run_inspection(folder: Path, *, html: Path | None, as_json: bool) -> int:
    """Inspects, prints, and writes ``html`` if it is named; the exit code."""
    from tersely.corpus.inspection import inspect_folder, inspection_page

    check_page(html, folder=folder)
    with shown_progress("inspecting", "steps") as on_progress:
        found = inspect_folder(folder, **({"on_progress": on_progress} if on_progress else {}))
    if html is not None:
        write_page(html, inspection_page(found))
    if as_json:
        print_json(found.manifest.to_dict() | found.to_dict())
        return 0
    _print(found)
    if html is not None:
        click.echo(f"\nThe page is {html}")
    return 0


def _print(found: Inspection) -> None:
    from tersely.corpus.inspection.page import command_of, facts
    from tersely.corpus.read import visible

    manifest = found.manifest
    ratio = found.bytes_per_token
    rows = [
        ("documents", count(manifest.documents)),
        ("tokens", count(manifest.tokens)),
        ("bytes per token", f"{ratio:.3f}" if ratio else "-"),
        ("rows", count(manifest.rows)),
        ("packing efficiency", share(manifest.efficiency) if manifest.packing.capacity else "-"),
        *facts(found),
    ]
    if found.all_sources.trained is not None:
        rows.append(("tokens trained on", share(found.all_sources.trained)))
    if command := command_of(found):
        rows.append(("command", command))
    print_table(
        f"{visible(str(found.folder))} (tersely {manifest.tersely})", [(n, visible(v)) for n, v in rows]
    )
    _print_lengths(found.lengths)
    _print_sources(found)
    _print_choices(found)
    _print_quarantine(found)


def _print_lengths(lengths: Lengths) -> None:
    """Percentiles, and a bar for each octave."""
    if not lengths.documents:
        return
    marks = ", ".join(f"{percent} % {count(lengths.percentile(percent))}" for percent in (50, 90, 99))
    click.echo(f"\nTokens of documents: {marks}, longest {count(lengths.longest)}")
    octaves: dict[int, list[int]] = {}
    for start, _, documents, tokens in lengths.histogram():
        held = octaves.setdefault(1 << (start.bit_length() - 1) if start else 0, [0, 0])
        held[0] += documents
        held[1] += tokens
    most = max(documents for documents, _ in octaves.values())
    for start, (documents, tokens) in octaves.items():
        bar = "#" * round(_BAR * documents / most) or ("." if documents else "")
        part = tokens / lengths.tokens if lengths.tokens else 0
        click.echo(f"  from {start:>9,}  {bar:{_BAR}}  {documents:,} ({part:.1%} of tokens)")


def _print_sources(found: Inspection) -> None:
    from tersely.corpus.read import visible

    def cells(one: SourceFigures) -> list[str]:
        part = one.tokens / max(found.all_sources.tokens, 1)
        ratio = f"{one.bytes_per_token:.3f}" if one.bytes_per_token else "-"
        bad = count(one.quarantined) + (", broke off" if one.broken_off else "")
        return [count(one.documents), count(one.tokens), f"{part:.1%}", ratio, f"{one.padding:.3%}", bad]

    shown = found.largest[:_SHOWN]
    rows = [[_cut(visible(one.name)), *cells(one)] for one in shown]
    head = ["source", "documents", "tokens", "share", "bytes/token", "empty places", "quarantined"]
    click.echo()
    print_columns("Sources", head, rows)
    if len(found.sources) > len(shown):
        click.echo(
            f"  ... and {count(len(found.sources) - len(shown))} more, with fewer tokens: see --html or --json"
        )


def _print_choices(found: Inspection) -> None:
    """Empty places and documents cut, a line for each capacity."""
    from tersely.corpus.inspection.packing_section import present, summary

    if not found.choices:
        return
    head = [
        "capacity",
        "empty: best-fit",
        "next-fit",
        "concat",
        "cut: best-fit",
        "concat",
        "rows",
        "attention",
    ]
    rows = [[*row[:-1], f"<- {own}" if own else ""] for row, own in summary(found.choices)]
    click.echo()
    print_columns("Other capacities and strategies", [*head, ""], rows)
    click.echo(textwrap.fill(present(found), _WIDTH, initial_indent="  ", subsequent_indent="  "))


def _print_quarantine(found: Inspection) -> None:
    from tersely.corpus.read import visible

    kinds = found.quarantine.kinds[:_SHOWN]
    if not kinds:
        return
    click.echo(f"\nQuarantine: {count(found.quarantine.records)} records, by reason")
    for kind in kinds:
        first = kind.examples[0]
        click.echo(
            f"  {kind.records:>9,}  {visible(kind.reason)}  (first: {_cut(visible(first.source))}:{first.line})"
        )
    left = found.quarantine.records - sum(kind.records for kind in kinds)
    if left:
        click.echo(f"  {left:>9,}  other reasons: see --html or --json")


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"..{name[2 - _NAME :]}"
