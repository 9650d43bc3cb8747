"""Where tokens come from: byte ranges counted from the ids, characters from bytes, bytes from characters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from tersely.ragged import Ragged
from tersely.tokenize.subword.model import TokenBytes


def spans_of_pieces(
    pieces: TokenBytes, rows: Ragged, contents: list[bytes], spans: np.ndarray[Any, Any]
) -> list[bool]:
    """Fills ``spans``, shape ``(total, 2)``, for the documents whose ids give back their bytes; says which those are.

    Cost: one gather of all pieces, one comparison with the documents.
    """
    taken = pieces.values.take(rows.values)
    ends, joined = taken.offsets, taken.values.tobytes()
    exact: list[bool] = []
    for content, (start, stop) in zip(contents, pairwise(rows.offsets.tolist()), strict=True):
        first, last = int(ends[start]), int(ends[stop])
        added = last - first - len(content)  # 1 where a space was put before the text
        same = added in (0, 1) and joined[first:last] == b" " * added + content
        exact.append(same and bool(pieces.exact[rows.values[start:stop]].all()))
        if exact[-1]:
            bounds = np.maximum(ends[start : stop + 1] - first - added, 0)
            spans[start:stop, 0], spans[start:stop, 1] = bounds[:-1], bounds[1:]
    return exact


def byte_of_character(text: str) -> np.ndarray[Any, Any]:
    """For each character of ``text``, and for its end, the UTF-8 byte it starts at."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    width = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(width)])


def characters_of(spans: np.ndarray[Any, Any], text: str) -> np.ndarray[Any, Any]:
    """Byte ranges as the ranges of the characters that they touch."""
    starts = byte_of_character(text)
    first = np.searchsorted(starts, spans[:, 0], "right") - 1
    last = np.searchsorted(starts, spans[:, 1], "left")
    return np.stack([first, np.maximum(first, last)], axis=1)


def part_characters(spans: np.ndarray[Any, Any], single: np.ndarray[Any, Any]) -> None:
    """Gives each token of byte fallback its own byte, where those in a row are as many as the bytes of their range."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], single.astype(np.int8), [0]])))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        first, last = int(spans[start:stop, 0].min()), int(spans[start:stop, 1].max())
        if last - first == stop - start:
            spans[start:stop, 0] = np.arange(first, last)
            spans[start:stop, 1] = spans[start:stop, 0] + 1
        else:
            spans[start:stop] = first, last
