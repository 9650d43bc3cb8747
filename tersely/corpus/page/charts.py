"""Charts as SVG text: bars, stacked bars, dots, columns and lines. Colours and fonts come from page.css.

A chart is as wide as the page; heights follow the number of rows. All text is escaped here.
"""

from __future__ import annotations

import html
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tersely.corpus.read import visible

WIDTH = 860
_BAR_ROW, _DOT_ROW = 30, 21
_CHARACTER = 7.2
"""Pixels that a character takes, about."""
_LONGEST = 26
_PLOT = 170
"""Height of the columns or lines themselves."""
_LEFT, _TOP, _FOOT = 58, 24, 42
_SHAPES = 3


def escape(text: str) -> str:
    """As HTML, with characters that would not show or would turn the text around spelled out."""
    return html.escape(visible(text))


def bar_chart(
    title: str, labels: Sequence[str], values: Sequence[float], shown: Sequence[str], faint: Sequence[bool]
) -> str:
    """A bar for each label, each in its colour, with its value as ``shown`` behind it."""
    left, right = _margin(labels), max(map(len, shown)) * _CHARACTER + 16
    scale = (WIDTH - left - right) / (max(values) or 1)
    parts: list[str] = []
    for row, (label, value, text, pale) in enumerate(zip(labels, values, shown, faint, strict=True)):
        y = row * _BAR_ROW
        parts += [
            _label(label, left, y + 20),
            f'<rect class="c{row % 8}{" faint" if pale else ""}" x="{left}" y="{y + 5}" width="{value * scale:.1f}" '
            'height="20" rx="2"/>',
            f'<text x="{left + value * scale + 8:.1f}" y="{y + 20}">{escape(text)}</text>',
        ]
    return _svg(title, len(labels) * _BAR_ROW, parts)


def stacked_chart(
    title: str,
    labels: Sequence[str],
    values: Sequence[Sequence[float]],
    names: Sequence[str],
    shown: Sequence[str],
    faint: Sequence[bool],
) -> str:
    """A bar of parts for each label, with ``shown`` behind it; ``names`` are those of the parts."""
    left, right = _margin(labels), max(map(len, shown)) * _CHARACTER + 16
    scale = (WIDTH - left - right) / (max(map(sum, values)) or 1)
    parts: list[str] = []
    for row, (label, pieces, text, pale) in enumerate(zip(labels, values, shown, faint, strict=True)):
        y, x = row * _BAR_ROW, float(left)
        parts.append(_label(label, left, y + 20))
        for number, (piece, name) in enumerate(zip(pieces, names, strict=True)):
            parts.append(
                f'<rect class="p{number}{" faint" if pale else ""}" x="{x:.1f}" y="{y + 5}" width="{piece * scale:.1f}" height="20">'
                f"<title>{escape(name)}: {piece:.3g}</title></rect>"
            )
            x += piece * scale
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 20}">{escape(text)}</text>')
    return _svg(title, len(labels) * _BAR_ROW, parts)


def dot_chart(
    title: str,
    groups: Sequence[str],
    names: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    logarithmic: bool = False,
) -> str:
    """A line for each group with a dot for each name.

    Args:
        title: what the chart is called by screen readers.
        groups: labels of the lines.
        names: what the dots stand for, in the order of colours and shapes.
        values: for each group a value for each name, above 0; None leaves the dot out; one at least is there.
        logarithmic: whether equal distances are equal ratios.
    """
    left, right, top = _margin(groups), 16, 26
    present = [value for row in values for value in row if value is not None]
    ticks = _log_ticks(min(present), max(present)) if logarithmic else _ticks(max(present))
    at = _axis(ticks[0], ticks[-1], left, WIDTH - right, logarithmic)
    bottom = top + len(groups) * _DOT_ROW
    parts: list[str] = []
    for tick in ticks:
        x, text = at(tick), f"{tick:g}"
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{bottom + 4}"/>')
        for y in (top - 12, bottom + 18):
            parts.append(f'<text class="tick" x="{x:.1f}" y="{y}">{text}</text>')
    for number, (group, row) in enumerate(zip(groups, values, strict=True)):
        y = top + number * _DOT_ROW + _DOT_ROW / 2
        parts.append(_label(group, left, y + 4))
        places = [at(value) for value in row if value is not None]
        if places:
            parts.append(
                f'<line class="span" x1="{min(places):.1f}" y1="{y}" x2="{max(places):.1f}" y2="{y}"/>'
            )
        for index, (name, value) in enumerate(zip(names, row, strict=True)):
            if value is not None:
                parts.append(_mark(index, at(value), y, f"{group}, {name}: {value:.2f}"))
    return _svg(title, bottom + 26, parts)


def column_chart(
    title: str,
    edges: Sequence[int],
    values: Sequence[float],
    marks: Sequence[tuple[float, str]] = (),
    *,
    unit: str = "",
    color: int = 0,
) -> str:
    """Columns of one width between ``edges``, of which there is one more than ``values``.

    Args:
        title: what the chart is called by screen readers.
        edges: ascending; the powers of two among them are named below the columns, or all if there are none.
        values: shares of one.
        marks: places between the edges at which a dashed line stands, with what is written on it.
        unit: of the edges.
        color: which of the eight.
    """
    width = (WIDTH - _LEFT - 16) / len(values)
    parts, height = _percent_axis(max(values))
    for number, value in enumerate(values):
        x, tall = _LEFT + number * width, height(value)
        span = f"{edges[number]:,}" + (
            f" to {edges[number + 1] - 1:,}" * (edges[number + 1] - edges[number] > 1)
        )
        parts.append(
            f'<rect class="c{color}" x="{x + min(1, width / 8):.1f}" y="{_TOP + _PLOT - tall:.1f}" '
            f'width="{width - min(2, width / 4):.1f}" height="{tall:.1f}"><title>{span} {escape(unit)}: {value:.2%}</title></rect>'
        )
    named = [number for number, edge in enumerate(edges) if edge & (edge - 1) == 0]
    named = named if len(named) > 1 else list(range(len(edges)))
    for number in named[:: math.ceil(len(named) * 62 / (WIDTH - _LEFT))]:
        parts.append(_tick(_LEFT + number * width, f"{edges[number]:,}"))
    parts.append(
        f'<text class="tick" x="{(WIDTH + _LEFT) / 2}" y="{_TOP + _PLOT + 36}">{escape(unit)}</text>'
    )
    for row, (value, text) in enumerate(marks):
        place = min(max(bisect_right(edges, value) - 1, 0), len(values) - 1)
        inside = (value - edges[place]) / (edges[place + 1] - edges[place])
        x = _LEFT + (place + min(max(inside, 0), 1)) * width
        end = x > WIDTH - 150
        parts.append(
            f'<line class="mark" x1="{x:.1f}" y1="{_TOP - 14}" x2="{x:.1f}" y2="{_TOP + _PLOT}"/>'
            f'<text class="note{" end" if end else ""}" x="{x + (-5 if end else 5):.1f}" y="{_TOP - 4 + 15 * row}">{escape(text)}</text>'
        )
    return _svg(title, _TOP + _PLOT + _FOOT, parts)


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, a share of one for each place (None leaves it out), and the number of its colour."""

    name: str
    values: Sequence[float | None]
    color: int


def line_chart(
    title: str, places: Sequence[str], lines: Sequence[Line], chosen: int | None, unit: str
) -> str:
    """Lines over ``places``, named below at equal distances in ``unit``; the ``chosen``-th place is marked."""
    top = max((value for line in lines for value in line.values if value is not None), default=0)
    parts, height = _percent_axis(top)
    width = (WIDTH - _LEFT - 16) / len(places)
    if chosen is not None:
        band = f'<rect class="band" x="{_LEFT + chosen * width:.1f}" y="{_TOP - 8}" width="{width:.1f}" height="{_PLOT + 32}" rx="4"/>'
        parts.insert(0, band)
    for number, place in enumerate(places):
        parts.append(_tick(_LEFT + (number + 0.5) * width, place))
    parts.append(
        f'<text class="tick" x="{(WIDTH + _LEFT) / 2}" y="{_TOP + _PLOT + 38}">{escape(unit)}</text>'
    )
    for order, line in enumerate(lines):
        points = [
            (
                _LEFT + (number + 0.5) * width,
                _TOP + _PLOT - height(value),
                f"{line.name}, {place}: {value:.3%}",
            )
            for number, (place, value) in enumerate(zip(places, line.values, strict=True))
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        # A line that another will lie on is drawn wider, so that both are seen.
        wide = " wide" if any(_same(line, other, 0.01 * top) for other in lines[order + 1 :]) else ""
        parts.append(f'<polyline class="line c{line.color % 8}{wide}" points="{path}"/>')
        parts += [_mark(line.color, x, round(y, 1), named) for x, y, named in points]
    return _svg(title, _TOP + _PLOT + _FOOT, parts)


def _same(line: Line, other: Line, near: float) -> bool:
    """Whether most of two lines cannot be told apart."""
    gaps = [
        abs(a - b) for a, b in zip(line.values, other.values, strict=True) if a is not None and b is not None
    ]
    return 2 * sum(gap <= near for gap in gaps) > len(gaps)


def _percent_axis(largest: float) -> tuple[list[str], Callable[[float], float]]:
    """Grid lines with percentages from 0 to above ``largest``, and the height of a share."""
    ticks = _ticks(max(largest, 1e-4))
    parts: list[str] = []
    for tick in ticks:
        y = _TOP + _PLOT * (1 - tick / ticks[-1])
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - 16}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 8}" y="{y + 4:.1f}">{100 * tick:g} %</text>')
    return parts, lambda share: _PLOT * share / ticks[-1]


def _tick(x: float, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{_TOP + _PLOT + 18}">{escape(text)}</text>'


def legend_mark(index: int) -> str:
    """The dot of the name with this number, as a small picture of its own."""
    return f'<svg class="key" viewBox="0 0 14 14" aria-hidden="true">{_mark(index, 7, 7, "")}</svg>'


def _mark(index: int, x: float, y: float, title: str) -> str:
    """Colours repeat after eight names, each time with another shape."""
    shape, kind = index // 8 % _SHAPES, f'class="c{index % 8}"'
    named = f"<title>{escape(title)}</title>" if title else ""
    if shape == 0:
        return f'<circle {kind} cx="{x:.1f}" cy="{y}" r="5.2">{named}</circle>'
    turned = f' transform="rotate(45 {x:.1f} {y})"' if shape == 2 else ""
    return f'<rect {kind} x="{x - 4.6:.1f}" y="{y - 4.6:.1f}" width="9.2" height="9.2"{turned}>{named}</rect>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    inner = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}">\n{inner}\n</svg>'
    )


def _label(text: str, left: float, y: float) -> str:
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026"
    return f'<text class="label" x="{left - 10}" y="{y}">{escape(short)}<title>{escape(text)}</title></text>'


def _margin(labels: Sequence[str]) -> int:
    return round(min(max(map(len, labels)), _LONGEST) * _CHARACTER) + 18


def _axis(low: float, high: float, left: float, right: float, logarithmic: bool) -> Callable[[float], float]:
    """Where on the page a value is."""

    def at(value: float) -> float:
        if logarithmic:
            return left + (right - left) * math.log(value / low) / math.log(high / low)
        return left + (right - left) * (value - low) / (high - low)

    return at


def _ticks(largest: float) -> list[float]:
    """From 0 to above the largest value, in four to eight steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(largest))
    step = next(step for step in (power / 5, power / 2, power, 2 * power) if largest / step <= 8)
    return [round(number * step, 12) for number in range(math.ceil(largest / step) + 1)]


def _log_ticks(smallest: float, largest: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from below the smallest value to above the largest."""
    powers = range(math.floor(math.log10(smallest)) - 1, math.ceil(math.log10(largest)) + 1)
    marks = [round(step * 10.0**power, 12) for power in powers for step in (1, 2, 5)]
    first = max(index for index, mark in enumerate(marks) if mark <= smallest)
    last = next(index for index, mark in enumerate(marks) if mark >= largest)
    return marks[first : max(last, first + 1) + 1]
