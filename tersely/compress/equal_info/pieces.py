"""Rows cut into pieces of which several are worked on in turn, so that their look-ups in memory overlap.

A table of many classes is larger than the caches, and in a row each look-up waits for the one before. So many pieces, on
as many lanes, have as many look-ups on their way at a time. Most pieces are whole rows; only rows so long that they would be left alone
at the end are cut, and what is not known at a cut is found by a start some way before it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def cut_rows(offsets: Any, least: int, lanes: int) -> Any:
    """Cuts rows of more than ``least``, and of more than a fair share, into pieces.

    Args:
        offsets: shape ``(rows + 1,)``, int64.
        least: the shortest piece to cut a row into.
        lanes: how many pieces are worked on at a time.

    Returns:
        For each piece, in order, where it starts and where it stops, and its row; shape ``(pieces,)``, int64.
    """
    length = max(least, (offsets[-1] - offsets[0]) // (4 * lanes))
    count = 0
    for row in range(offsets.size - 1):
        count += max(1, -(-(offsets[row + 1] - offsets[row]) // length))
    starts, stops, rows = np.empty((3, count), np.int64)
    count = 0
    for row in range(offsets.size - 1):
        start = offsets[row]
        while True:
            starts[count], stops[count], rows[count] = start, min(start + length, offsets[row + 1]), row
            start = stops[count]
            count += 1
            if start == offsets[row + 1]:
                break
    return starts, stops, rows
