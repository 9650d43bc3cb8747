"""What ``tersely inspect --compare`` does: measure, print tables, write the page."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tersely.cli.output import (
    count,
    print_columns,
    print_json,
    shown_progress,
    tell_passed_over,
)
from tersely.cli.page import check_page, write_page

if TYPE_CHECKING:
    from tersely.corpus.comparison import Compared, Comparison, Figures

_WIDTH = 100
_NAME = 22


def run_comparison(
    inputs: Sequence[str],
    specs: Sequence[str],
    *,
    by: str | None,
    html: Path | None,
    capacity: int,
    sample_bytes: int,
    layers: int,
    hidden: int,
    text_field: str,
    input_format: str,
    as_json: bool,
) -> int:
    """Compares, prints, and writes ``html`` if it is named; the exit code."""
    from tersely.corpus import find_sources
    from tersely.corpus.comparison import ModelShape, compare, comparison_page

    sources, passed_over = find_sources(inputs, text_field, input_format, fields=[by] if by else [])
    check_page(html, [*(Path(source.name) for source in sources), *_tokenizer_files(specs)])
    tell_passed_over(passed_over)
    with shown_progress("comparing") as on_progress:
        result = compare(
            sources,
            specs,
            by=by,
            capacity=capacity,
            sample_bytes=sample_bytes,
            model=ModelShape(layers, hidden),
            on_progress=on_progress,
        )
    if html is not None:
        write_page(html, comparison_page(result, f"tersely {shlex.join(sys.argv[1:])}"))
    if as_json:
        print_json(result.to_dict())
        return 0
    _print(result)
    if html is not None:
        click.echo(f"The page is {html}")
    return 0


def _tokenizer_files(specs: Sequence[str]) -> Iterator[Path]:
    """The files of tokenizers that are files or folders; pages are none, wherever they are."""
    for path in map(Path, specs):
        yield from (file for file in path.iterdir() if file.suffix != ".html") if path.is_dir() else [path]


def _print(result: Comparison) -> None:
    from tersely.corpus.comparison import measured
    from tersely.corpus.read import visible

    rows = [
        [
            _cut(made.name),
            count(made.vocab_size),
            _ratio(made.overall, made.overall.bytes_per_token),
            _ratio(made.overall, made.overall.tokens_per_word),
            count(made.overall.rows),
            f"{made.flops.total:.2e}",
            f"{made.relative_flops:.3f}",
        ]
        for made in result.tokenizers
    ]
    click.echo(textwrap.fill(visible(measured(result)), _WIDTH))
    head = ["tokenizer", "vocabulary", "bytes/token", "tokens/word"]
    head += [f"rows of {count(result.capacity)}", "training FLOPs", "relative"]
    print_columns("", head, rows)
    if result.by is not None:
        _print_parts(result, result.by, result.groups, lambda made: made.groups)
    if len(result.files) > 1:
        _print_parts(result, "input", result.files, lambda made: made.files)
    parts = [
        part
        for made in result.tokenizers
        for part in (made.overall, *made.groups.values(), *made.files.values())
    ]
    if any(part.lossy for part in parts):
        click.echo("\n* Text is lost here, so the figure says little.")
    for note in result.notes:
        click.echo(f"\n{textwrap.fill(f'Note: {visible(note)}', _WIDTH)}")


def _print_parts(
    result: Comparison, what: str, parts: Sequence[str], of: Callable[[Compared], dict[str, Figures]]
) -> None:
    """Two tables with a line for each part and a column for each tokenizer, as many as fit side by side."""
    first = max(map(len, [what, *map(_cut, parts)])) + 2
    for title in ("bytes per token", "tokens per word"):
        made = list(result.tokenizers)
        while made:
            ends = [
                first + sum(2 + max(len(_cut(one.name)), 7) for one in made[:n])
                for n in range(1, len(made) + 1)
            ]
            fit = max(sum(end <= _WIDTH for end in ends), 1)
            shown, made = made[:fit], made[fit:]
            rows = [[_cut(part), *(_of_part(of(one).get(part), title) for one in shown)] for part in parts]
            click.echo()
            print_columns(f"{title} by {what}", [what, *(_cut(one.name) for one in shown)], rows)


def _of_part(figures: Figures | None, title: str) -> str:
    if figures is None:
        return "- "
    return _ratio(figures, figures.bytes_per_token if title == "bytes per token" else figures.tokens_per_word)


def _ratio(figures: Figures, value: float | None) -> str:
    """With a star where the tokenizer loses so much text that its figure says little."""
    return ("-" if value is None else f"{value:.3f}") + ("*" if figures.lossy else " ")


def _cut(name: str) -> str:
    from tersely.corpus.read import visible

    name = visible(name)
    return name if len(name) <= _NAME else f"{name[: _NAME - 2]}.."
