"""The walk of the encoder: a step in the table for each byte, and one more that ends each window.

A table of many classes is larger than the caches, and each step waits for the one before. So ``LANES`` documents are
walked through in turn, a byte of each, with as many look-ups on their way at a time.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.table import BASE, LABEL, NO_BYTE, STEP, STEP_BITS

LANES = 8
"""Documents that are walked through at a time."""


@numba.njit(cache=True, nogil=True)
def encode_rows(
    cells: Any, roots: Any, follow: Any, text: Any, offsets: Any, end_of_text: Any, ids: Any, lengths: Any
) -> int:
    """The ids of documents; no window reaches over the end of one.

    Args:
        cells: of the table, shape ``(size,)``, uint64.
        roots: shape ``(C,)``, int64.
        follow: shape ``(257, 256)``, uint16: the class behind two bytes.
        text: shape ``(bytes,)``, uint8.
        offsets: shape ``(documents + 1,)``, int64.
        end_of_text: whether the id 0 opens each row, and whether it closes it.
        ids: shape of at least ``(bytes + 2 * documents,)``; written from its start.
        lengths: shape ``(documents,)``, int64; written: ids of each document.

    Returns:
        How many ids there are.
    """
    opened, closed = np.int64(end_of_text[0]), np.int64(end_of_text[1])
    _walk(cells, roots, follow, text, offsets, opened, ids, lengths)
    count = 0
    for row in range(lengths.size):
        start = offsets[row] - offsets[0] + 2 * row
        if opened:
            ids[count] = 0
        for i in range(opened, lengths[row]):
            ids[count + i] = ids[start + i]
        count += lengths[row]
        if closed:
            ids[count] = 0
            count += 1
            lengths[row] += 1
    return count


@numba.njit(cache=True, nogil=True)
def _walk(
    cells: Any, roots: Any, follow: Any, text: Any, offsets: Any, opened: Any, ids: Any, lengths: Any
) -> None:
    """The ids of each document where there is room for one a byte; ``opened`` places are left free before them."""
    # Of each lane: the place in the text, where its window and its document begin, where the document ends, its row, and
    # the place of the next id; then the node.
    place, begin, start, stop, row, at = lanes = np.zeros((6, LANES), np.int64)
    base, number = nodes = np.zeros((2, LANES), np.uint64)
    taken, used = 0, 0
    while used < LANES and taken < lengths.size:
        _take(offsets, roots, taken, lanes[:, used], nodes[:, used], opened)
        taken += 1
        used += 1
    while used:
        for lane in range(used):
            i = place[lane]
            if i < stop[lane]:
                byte = np.uint64(text[np.uint64(i)])
                cell = cells[base[lane] + byte]
                if cell & np.uint64(LABEL) == byte:
                    number[lane] += (cell >> np.uint64(STEP)) & np.uint64((1 << STEP_BITS) - 1)
                    base[lane] = cell >> np.uint64(BASE)
                    place[lane] = i + 1
                    continue
            if i > begin[lane]:
                ids[np.uint64(at[lane])] = number[lane]
                at[lane] += 1
                before = np.int64(text[i - 2]) if i > start[lane] + 1 else NO_BYTE
                base[lane], number[lane], begin[lane] = roots[follow[before, text[i - 1]]], 0, i
            if i == stop[lane]:
                lengths[row[lane]] = at[lane] - (start[lane] - offsets[0] + 2 * row[lane])
                if taken == lengths.size:
                    used -= 1
                    lanes[:, lane], nodes[:, lane] = lanes[:, used], nodes[:, used]
                    break
                _take(offsets, roots, taken, lanes[:, lane], nodes[:, lane], opened)
                taken += 1


@numba.njit(cache=True, nogil=True)
def _take(offsets: Any, roots: Any, row: int, lane: Any, node: Any, opened: Any) -> None:
    """Puts a document on a lane."""
    start, stop = offsets[row], offsets[row + 1]
    lane[0], lane[1], lane[2], lane[3], lane[4] = start, start, start, stop, row
    lane[5] = start - offsets[0] + 2 * row + opened
    node[0], node[1] = roots[0], 0
