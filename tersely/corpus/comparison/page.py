"""A comparison as one HTML page: tables and charts, nothing fetched and nothing run, light or dark as the reader likes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tersely.corpus.comparison.compared import Compared, Comparison
from tersely.corpus.comparison.figures import Figures
from tersely.corpus.page import (
    bar_chart,
    bullets,
    cell,
    dot_chart,
    escape,
    html_page,
    legend_mark,
    scroll,
    stacked_chart,
    table,
)

WORDS_WITHOUT_BLANKS = 13
"""Above this many characters between blanks, blanks do not stand between words (Thai, Chinese, DNA)."""

_Get: TypeAlias = "Callable[[Figures], float | None]"

_PARTS = ("linear layers", "attention", "output layer")


def comparison_page(comparison: Comparison, command: str = "") -> str:
    """The page, to be written as UTF-8. ``command`` is shown as what it was made by."""
    body = [
        f"<p>{escape(measured(comparison))}</p>",
        f"<pre>{escape(command)}</pre>" if command else "",
        _overview(comparison),
        _bars(comparison),
        _flops(comparison),
    ]
    if comparison.by is not None:
        body += _by_part(comparison, comparison.by, comparison.groups, lambda made: made.groups)
    if len(comparison.files) > 1:
        body += _by_part(comparison, "input", comparison.files, lambda made: made.files)
    body.append(_explanations(comparison))
    return html_page(f"{len(comparison.tokenizers)} tokenizers compared", body)


def measured(comparison: Comparison) -> str:
    """A sentence on what was measured, and on how much."""
    count, size = f"{comparison.measured_documents:,}", _size(comparison.measured_bytes)
    inputs = comparison.files[0] if len(comparison.files) == 1 else f"{len(comparison.files)} inputs"
    if comparison.whole:
        return f"Measured on all {count} documents of {inputs}, {size} of text."
    share = 100 * comparison.measured_bytes / comparison.bytes
    present, scope = "is present", "the whole"
    if comparison.partly_read:
        present = "in what was read is present"
        known = all(comparison.partly_read.values())
        scope = "the whole, extrapolated" if known else "what was read: how much follows is not known"
    return (
        f"Measured on {count} documents of {inputs}, {size} of text: {share:.3g} % of {_size(comparison.bytes)}, "
        f"drawn so that every input and group {present}. Figures are for {scope}."
    )


def _size(number: float) -> str:
    return f"{number / 1e6:,.2f} MB" if number >= 1e6 else f"{number / 1e3:,.2f} kB"


def restored(figures: Figures) -> str:
    """The share of documents that come back, and of bytes where that is not all."""
    if figures.restored == 1:
        return "all"
    return f"{figures.restored:.1%} ({figures.bytes_back:.1%} of bytes)"


def with_blanks(
    comparison: Comparison, groups: Sequence[str], of: Callable[[Compared], dict[str, Figures]]
) -> list[str]:
    """The groups whose text has blanks between its words, so that tokens per word mean something."""
    kept: list[str] = []
    for group in groups:
        found = next((of(made)[group] for made in comparison.tokenizers if group in of(made)), None)
        if found and found.characters_per_word and found.characters_per_word <= WORDS_WITHOUT_BLANKS:
            kept.append(group)
    return kept


def _overview(comparison: Comparison) -> str:
    head = [
        "tokenizer",
        "vocabulary",
        "of it used",
        "bytes per token",
        "tokens per word",
        "tokens per character",
    ]
    head += ["restored", f"rows of {comparison.capacity:,}", "full", "training FLOPs", "relative"]
    head.append("MB/s")
    rows = [
        (
            made.name,
            [
                f"{made.vocab_size:,}",
                f"{made.overall.vocabulary_used:.1%}",
                f"{made.overall.bytes_per_token:.3f}",
                number(made.overall.tokens_per_word),
                f"{made.overall.tokens_per_character:.3f}",
                restored(made.overall),
                f"{made.overall.rows:,}",
                f"{made.overall.efficiency:.2%}",
                f"{made.flops.total:.2e}",
                f"{made.relative_flops:.3f}",
                number(made.megabytes_per_second, 1),
            ],
        )
        for made in comparison.tokenizers
    ]
    return table(head, [(name, [cell(text) for text in texts]) for name, texts in rows])


def _bars(comparison: Comparison) -> str:
    """How short sequences become: bytes per token and tokens per word."""
    made = comparison.tokenizers
    names, faint = [one.name for one in made], [one.overall.lossy for one in made]
    ratios = [one.overall.bytes_per_token for one in made]
    marks = [" (loses text)" if pale else "" for pale in faint]
    shown = [f"{value:.3f}{mark}" for value, mark in zip(ratios, marks, strict=True)]
    parts = ["<h2>Bytes per token</h2>", '<p class="soft">Longer is shorter: more text in each token.</p>']
    parts.append(scroll(bar_chart("bytes per token", names, ratios, shown, faint)))
    words = [one.overall.tokens_per_word for one in made]
    if all(word is not None for word in words):
        values = [word or 0.0 for word in words]
        shown = [f"{value:.3f}{mark}" for value, mark in zip(values, marks, strict=True)]
        parts += [
            "<h2>Tokens per word</h2>",
            '<p class="soft">A word is what stands between white space.</p>',
        ]
        parts.append(scroll(bar_chart("tokens per word", names, values, shown, faint)))
    return "\n".join(parts)


def _flops(comparison: Comparison) -> str:
    made = comparison.tokenizers
    values = [[one.flops.linear, one.flops.attention, one.flops.output] for one in made]
    shown = [f"{one.flops.total:.2e} ({one.relative_flops:.2f}\u00d7)" for one in made]
    keys = "".join(f'<li><span class="swatch p{i}"></span>{name}</li>' for i, name in enumerate(_PARTS))
    chart = stacked_chart(
        "training FLOPs",
        [one.name for one in made],
        values,
        _PARTS,
        shown,
        [one.overall.lossy for one in made],
    )
    model = comparison.model
    return (
        f'<h2>Training FLOPs</h2>\n<p class="soft">One pass over the whole input, forward and backward, for a decoder of '
        f"{model.layers} layers of width {model.hidden} ({model.parameters / 1e6:,.1f} million parameters without embeddings); in "
        f"brackets relative to {escape(made[0].name)}.</p>\n"
        f'<ul class="legend">{keys}</ul>\n{scroll(chart)}'
    )


def _by_part(
    comparison: Comparison, what: str, groups: Sequence[str], of: Callable[[Compared], dict[str, Figures]]
) -> list[str]:
    """Charts and tables by group: bytes per token, tokens per word, tokens per character."""
    blanks = with_blanks(comparison, groups, of)
    without = [group for group in groups if group not in blanks]
    note = (
        f"On a logarithmic axis. Left out, with more than {WORDS_WITHOUT_BLANKS} characters between blanks: {', '.join(without)}."
        if without
        else ""
    )
    name = escape(what)
    parts = [
        f"<h2>Bytes per token by {name}</h2>",
        _dots(comparison, groups, of, lambda figures: figures.bytes_per_token, "bytes per token"),
    ]
    if blanks:
        parts += [
            f"<h2>Tokens per word by {name}</h2>",
            f'<p class="soft">{escape(note or "On a logarithmic axis.")}</p>',
            _dots(comparison, blanks, of, lambda figures: figures.tokens_per_word, "tokens per word", True),
        ]
    tables: list[tuple[str, _Get, bool]] = [
        ("bytes per token", lambda figures: figures.bytes_per_token, True),
        ("tokens per word", lambda figures: figures.tokens_per_word, False),
        ("tokens per character", lambda figures: figures.tokens_per_character, False),
        ("rows", lambda figures: figures.rows, False),
    ]
    for title, get, largest in tables:
        parts.append(
            f"<details><summary>Table: {title} by {name}</summary>\n{_table(comparison, what, groups, of, get, largest)}\n</details>"
        )
    return parts


def _dots(
    comparison: Comparison,
    groups: Sequence[str],
    of: Callable[[Compared], dict[str, Figures]],
    get: _Get,
    title: str,
    logarithmic: bool = False,
) -> str:
    """The chart with its legend: the groups in order of their means, so that the eye finds the worst off at one end."""
    found = {group: [of(made).get(group) for made in comparison.tokenizers] for group in groups}
    values = {
        group: [get(one) if one and not one.lossy else None for one in row] for group, row in found.items()
    }

    if not any(value is not None for row in values.values() for value in row):
        return '<p class="soft">Not drawn, because every tokenizer loses text in every part.</p>'

    def mean(group: str) -> float:
        present = [value for value in values[group] if value is not None]
        return sum(present) / max(len(present), 1)

    order = sorted(groups, key=mean, reverse=not logarithmic)
    names = [made.name for made in comparison.tokenizers]
    rows = [values[group] for group in order]
    return f"{_legend(comparison)}\n{scroll(dot_chart(title, order, names, rows, logarithmic=logarithmic))}"


def _table(
    comparison: Comparison,
    what: str,
    groups: Sequence[str],
    of: Callable[[Compared], dict[str, Figures]],
    get: _Get,
    largest: bool,
) -> str:
    """Groups by tokenizers; the best of a row stands out, and what loses text stands back."""
    lines: list[tuple[str, list[str]]] = []
    for group in groups:
        found = [of(made).get(group) for made in comparison.tokenizers]
        values = [get(one) if one else None for one in found]
        honest = [
            value
            for one, value in zip(found, values, strict=True)
            if one and value is not None and not one.lossy
        ]
        best = (max if largest else min)(honest, default=None)
        cells: list[str] = []
        for one, value in zip(found, values, strict=True):
            kind = "lossy" if one and one.lossy else "best" if value == best and value else ""
            cells.append(cell(f"{value:,}" if isinstance(value, int) else number(value), kind))
        lines.append((group, cells))
    return table([what, *(made.name for made in comparison.tokenizers)], lines)


def _legend(comparison: Comparison) -> str:
    keys = [f"<li>{legend_mark(i)}{escape(made.name)}</li>" for i, made in enumerate(comparison.tokenizers)]
    parts = (
        *(made.groups for made in comparison.tokenizers),
        *(made.files for made in comparison.tokenizers),
    )
    if any(figures.lossy for part in parts for figures in part.values()):
        keys.append('<li class="soft">not drawn where it loses text</li>')
    return f'<ul class="legend">{"".join(keys)}</ul>'


def _explanations(comparison: Comparison) -> str:
    model = comparison.model
    notes = [
        *comparison.notes,
        "Tokens per word count a word as what stands between white space; for languages and data written without blanks, see "
        "tokens per character (Unicode code points).",
        f"Rows are planned as tersely prepare packs them: best fit, longer documents split at {comparison.capacity:,} tokens, each "
        "document closed by one eos token where the tokenizer has one. Bytes per token do not count that token.",
        "Bytes restored are those that the decoded document has as well, order aside; below 95 % of them a tokenizer is said to lose "
        "text, and its figures stand back: unknown tokens make any sequence short.",
        "MB/s is text encoded in a second, measured here once, with all threads.",
        f"FLOPs of one training pass: linear layers 6 N T with N = 12 n d\u00b2 = {model.parameters:,} (Kaplan et al. 2020, "
        "arXiv:2001.08361), attention 12 n d \u00b7 \u03a3 t\u00b2 / 2 (PaLM, arXiv:2204.02311, appendix B; halved for the causal mask, "
        "documents not seeing each other), output layer 6 d V T; with n layers of width d, T tokens in documents (or pieces of them) of "
        "t tokens, and a vocabulary of V.",
        "Fewer FLOPs for the same text are not yet a better model: that a token carries more is not counted.",
    ]
    return f"<h2>Notes</h2>\n{bullets(notes)}"


def number(value: float | None, digits: int = 3) -> str:
    """With this many decimals, or a dash where there is none."""
    return "\u2013" if value is None else f"{value:,.{digits}f}"
