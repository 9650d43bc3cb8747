"""A swap as one HTML page: its figures and pictures, and its tokens, which may be searched. Nothing is fetched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from tersely.corpus.page import bar_chart, bullets, cell, column_chart, escape, html_page, scroll, table

if TYPE_CHECKING:
    from tersely.embeddings.transfer.report import SwapReport
    from tersely.embeddings.transfer.tokens import TokenTable

_COLUMNS = 24
_PERCENT = 100

_SEARCH = """<script>
const tokens = JSON.parse(document.getElementById("tokens").textContent);
const box = document.getElementById("search"), body = document.getElementById("found"), said = document.getElementById("said");
function show() {
  const found = [];
  let number = 0;
  for (const row of tokens) {
    if (!row.some((part) => String(part).includes(box.value))) continue;
    if (number++ < 200) found.push(row);
  }
  said.textContent = `${number} tokens` + (number > 200 ? ", the first 200 are shown" : "");
  body.replaceChildren(...found.map((row) => {
    const line = document.createElement("tr");
    line.append(...row.map((part) => {
      const place = document.createElement("td");
      place.textContent = part;
      return place;
    }));
    return line;
  }));
}
box.addEventListener("input", show);
show();
</script>"""


def swap_page(name: str, report: SwapReport) -> str:
    """The page, to be written as UTF-8."""
    sections = [
        f"<pre>{escape(str(report))}</pre>",
        f"<h2>Warnings</h2>\n{bullets(report.warnings)}" if report.warnings else "",
        _origins(report),
        _languages(report),
        _lengths(report.tokens) if report.tokens else "",
        _tokens(report.tokens) if report.tokens else "",
    ]
    return html_page(f"Tokenizer swap: {name}", sections, report.to_dict())


def _origins(report: SwapReport) -> str:
    """How many rows are of each origin."""
    counts = {origin: number for origin, number in report.counts.items() if number}
    shown = [f"{number:,} ({number / len(report.origins):.1%})" for number in counts.values()]
    chart = bar_chart("rows by origin", list(counts), list(counts.values()), shown, [False] * len(counts))
    return f"<h2>Where the rows come from</h2>\n{scroll(chart)}"


def _languages(report: SwapReport) -> str:
    """Tokens per byte before and after."""
    if not report.languages:
        return ""
    rows = [
        (
            name,
            [
                cell(f"{one.passages:,}"),
                cell(f"{one.tokens_per_byte_before:.4f}"),
                cell(f"{one.tokens_per_byte_after:.4f}"),
                cell(f"{one.tokens_per_byte_after / one.tokens_per_byte_before - 1:+.1%}"),
            ],
        )
        for name, one in report.languages.items()
    ]
    return "<h2>Tokens per byte</h2>\n" + table(
        ["text", "held-out passages", "before", "after", "change"], rows
    )


def _lengths(tokens: TokenTable) -> str:
    """How long the rows of each origin are, in hundredths of the longest row."""
    from tersely.embeddings.transfer.match import ORIGINS

    longest = float(tokens.lengths.max()) or 1.0
    places = np.minimum(tokens.lengths / longest * _COLUMNS, _COLUMNS - 1).astype(np.int64)
    edges = [round(_PERCENT * step / _COLUMNS) for step in range(_COLUMNS + 1)]
    charts = list[str]()
    for number, origin in enumerate(ORIGINS):
        those = places[tokens.origins == number]
        if len(those):
            shares = (np.bincount(those, minlength=_COLUMNS) / len(those)).tolist()
            chart = column_chart(
                f"lengths of rows, {origin}", edges, shares, unit="% of the longest", color=number % 8
            )
            charts.append(f"<h3>{origin}</h3>\n{scroll(chart)}")
    said = f'<p class="soft">Rows of the inputs, in hundredths of the longest, which is {longest:.4g}.</p>'
    return "<h2>Lengths of rows</h2>\n" + said + "\n" + "\n".join(charts)


def _tokens(tokens: TokenTable) -> str:
    """The tokens, as data, and the few lines that search them."""
    rows = [
        [row["id"], row["token"], row["origin"], " | ".join(row["pieces"]), f"{row['length']:.4g}"]
        for row in tokens
    ]
    data = json.dumps(rows, separators=(",", ":")).replace(
        "<", "\\u003c"
    )  # cannot close the element it is in
    heads = "".join(
        f'<th scope="col">{name}</th>' for name in ("id", "token", "origin", "old pieces", "length")
    )
    found = scroll(f'<table><thead><tr>{heads}</tr></thead><tbody id="found"></tbody></table>')
    return (
        '<h2>Tokens</h2>\n<p><input id="search" type="search" placeholder="token, piece or origin" aria-label="search"> '
        f'<span id="said" class="soft"></span></p>\n{found}\n'
        f'<script type="application/json" id="tokens">{data}</script>\n{_SEARCH}'
    )
