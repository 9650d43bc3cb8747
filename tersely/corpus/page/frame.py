"""The page around its sections, and the tables in it. Text given here is escaped; what is called HTML is not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from tersely.corpus.page.charts import escape

_LONG = 20
"""Longer names of rows may be broken into lines."""

_UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


def html_page(title: str, sections: Sequence[str], data: Mapping[str, Any] | None = None) -> str:
    """A page, to be written as UTF-8, that fetches nothing and runs nothing.

    Args:
        title: of the window, and the first heading.
        sections: HTML; empty ones are left out.
        data: figures for programs, put into the page as ``<script type="application/json" id="figures">``.
    """
    inner = "\n".join(section for section in sections if section)
    held = ""
    if data is not None:
        text = json.dumps(data, separators=(",", ":")).translate(_UNSAFE)  # cannot close the element it is in
        held = f'<script type="application/json" id="figures">{text}</script>\n'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style()}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{inner}\n</main>\n{held}</body>\n</html>\n"
    )


def style() -> str:
    """The style sheet of pages and charts."""
    return files("tersely.corpus.page").joinpath("page.css").read_text("utf-8")


def scroll(inner: str) -> str:
    """HTML that may be wider than the screen: it is moved sideways by itself, not the page."""
    return f'<div class="scroll">{inner}</div>'


def cell(text: str, kind: str = "", share: float | None = None) -> str:
    """A cell of a table; ``kind`` is a class of the style sheet, ``share`` (0 to 1) draws a bar behind the text."""
    kinds = " ".join(filter(None, (kind, "bar" if share is not None else "")))
    marked = f' class="{kinds}"' if kinds else ""
    bar = f' style="--share: {100 * share:.2f}%"' if share is not None else ""
    return f"<td{marked}{bar}>{escape(text)}</td>"


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table: for each row its name and its cells, which are HTML as ``cell`` makes it."""
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "\n".join(f"<tr>{_row_head(name)}{''.join(cells)}</tr>" for name, cells in rows)
    return scroll(f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table>")


def _row_head(name: str) -> str:
    long = ' class="long"' if len(name) > _LONG else ""
    return f'<th scope="row"{long}>{escape(name)}</th>'


def bullets(notes: Sequence[str]) -> str:
    """Notes as a list."""
    return "<ul>\n{}\n</ul>".format("\n".join(f"<li>{escape(note)}</li>" for note in notes))
