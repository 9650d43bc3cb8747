"""Span corruption of bytes (T5, arXiv 1910.10683, section 3.1.4; ByT5, arXiv 2105.13626): what a ByT5 learns from plain text.

    text       the quick brown fox jumps            spans to hide: "quick b", "jum"
    source     the <258>rown fox <257>ps </s>       a sentinel for each span
    target     <258>quick b<257>jum</s>

Byte ``b`` has the id ``b + 3``. Sentinels count down from 258, as in published checkpoints: the first eleven are bytes
that UTF-8 never has.

Legend: ``n`` documents.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tersely.errors import UsageError
from tersely.ragged import Ragged

BYTE, END, SENTINEL, SENTINELS = 3, 1, 258, 100


class Corrupted(NamedTuple):
    """What ``corrupt`` returns: rows of int64 ids, ``n`` each, closed by ``</s>``."""

    sources: Ragged
    targets: Ragged


def corrupt(texts: Ragged, seed: int, density: float = 0.15, mean_length: float = 20.0) -> Corrupted:
    """Hides spans of each document; the same seed and documents give the same spans.

    A document has ``round(density * length)`` hidden bytes, at least one, in spans of ``mean_length`` on average, with
    other bytes before each. All ways to cut them are equally likely. One of fewer than two bytes stays whole.

    Args:
        texts: ``n`` rows of bytes, uint8.
        seed: what is drawn comes from.
        density: share of bytes to hide, between 0 and 1.
        mean_length: of a span, at least 1.

    Raises:
        UsageError: density or length are out of range, or a document needs more than 100 sentinels.
    """
    if not 0 < density < 1 or mean_length < 1:
        raise UsageError(
            f"density {density} must be between 0 and 1, and mean_length {mean_length} at least 1"
        )
    generator = np.random.default_rng(seed)
    values: NDArray[np.uint8] = np.asarray(texts.values)
    offsets = texts.offsets
    found = [
        _spans(generator, int(stop - start), density, mean_length) + start
        for start, stop in zip(offsets, offsets[1:], strict=False)
    ]
    spans = np.array([len(part) for part in found], np.int64)
    if len(spans) and spans.max() > SENTINELS:
        raise UsageError(
            f"document {int(spans.argmax())} would need {spans.max()} sentinels, there are {SENTINELS}: cut it before"
        )
    starts, stops = np.concatenate([np.empty((0, 2), np.int64), *found]).T
    order = np.arange(len(starts)) - np.repeat(spans.cumsum() - spans, spans)
    edges = np.zeros(len(values) + 1, np.int64)
    edges[starts] += 1
    edges[stops] -= 1
    hidden = edges.cumsum()[:-1] > 0
    before = np.concatenate([[0], hidden.cumsum()])  # hidden bytes before each place
    ids = values.astype(np.int64) + BYTE
    target = np.insert(ids[hidden], before[starts], SENTINEL - order)
    ids[starts] = SENTINEL - order
    hidden[starts] = False
    counts = np.diff(before[offsets])
    return Corrupted(
        _closed(ids[~hidden], np.diff(offsets) - counts + spans), _closed(target, counts + spans)
    )


def _spans(
    generator: np.random.Generator, length: int, density: float, mean_length: float
) -> NDArray[np.int64]:
    """First byte and the one past the last of each span of a document, ``(spans, 2)``."""
    if length < 2:
        return np.empty((0, 2), np.int64)
    hidden = min(max(round(length * density), 1), length - 1)
    spans = min(max(round(hidden / mean_length), 1), length - hidden)
    pieces = np.stack([_cut(generator, length - hidden, spans), _cut(generator, hidden, spans)], 1)
    return pieces.ravel().cumsum().reshape(-1, 2)


def _cut(generator: np.random.Generator, total: int, pieces: int) -> NDArray[np.int64]:
    """``total`` as a sum of so many numbers of at least 1."""
    cuts = np.sort(generator.choice(total - 1, pieces - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]).astype(np.int64))


def _closed(values: NDArray[np.int64], lengths: NDArray[np.int64]) -> Ragged:
    """Rows with ``</s>`` behind each."""
    ends = lengths.cumsum()
    offsets = np.concatenate([[0], ends + np.arange(1, len(ends) + 1)])
    return Ragged(np.insert(values, ends, END), offsets)
