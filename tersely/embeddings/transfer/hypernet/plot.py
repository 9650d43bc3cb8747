"""The loss over the steps of a run, as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tersely.shards.atomic import replace_file

_WIDTH, _HEIGHT, _LEFT, _EDGE = 640, 320, 60, 28
_LINES = {"loss": "#9db4c8", "held_out": "#c2410c"}


def draw_losses(log: Path, picture: Path) -> None:
    """Reads the lines of a log and writes an SVG of what was trained on, and of what was held out."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    points = {
        name: [(line["step"], line[name]) for line in lines if line.get(name) is not None] for name in _LINES
    }
    values = [value for found in points.values() for _, value in found]
    if not values:
        return
    low, high = min(values), max(values)
    last = max(line["step"] for line in lines)
    parts = list[str]()
    for place in range(5):
        value = low + (high - low) * place / 4
        y = _y(value, low, high)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _EDGE}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.3f}", "end"))
    for number, (name, color) in enumerate(_LINES.items()):
        path = " ".join(f"{_x(step, last):.1f},{_y(value, low, high):.1f}" for step, value in points[name])
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        parts.append(_text(_WIDTH - _EDGE, _EDGE - 10 + 14 * number, name.replace("_", " "), "end", color))
    parts.append(_text(_LEFT, _HEIGHT - 8, "step 0", "start"))
    parts.append(_text(_WIDTH - _EDGE, _HEIGHT - 8, f"{last:,}", "end"))
    inner = "\n".join(parts)
    replace_file(
        picture,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n{inner}\n</svg>\n'.encode(),
    )


def _x(step: int, last: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _EDGE) * step / max(last, 1)


def _y(value: float, low: float, high: float) -> float:
    return _EDGE + (_HEIGHT - 2 * _EDGE) * (high - value) / ((high - low) or 1)


def _text(x: Any, y: float, words: str, anchor: str, color: str = "#444") -> str:
    return f'<text x="{x}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{words}</text>'
