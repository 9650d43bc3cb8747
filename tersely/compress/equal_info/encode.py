"""The walk of the encoder: a step in the table for each byte, and one more that ends each window.

A table of many classes is larger than the caches, and each step waits for the one before. So ``LANES`` documents are
walked through in turn, a byte of each, with as many look-ups on their way at a time.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.table import BASE, LABEL, STEP, STEP_BITS

LANES = 8
"""Documents that are walked through at a time."""


@numba.njit(cache=True, nogil=True)
def encode_rows(
    cells: Any, roots: Any, follow: Any, last: Any, text: Any, offsets: Any, end_of_text: Any, ids: Any, lengths: Any
) -> int:
    """The ids of documents; no window reaches over the end of one.

    Args:
        cells: of the table, shape ``(size,)``, uint64.
        roots: shape ``(C,)``, int64.
        follow: shape ``(257, 256)``, uint16: the class behind two bytes.
        last: shape ``(C,)``, int64: the last byte of each class.
        text: shape ``(bytes,)``, uint8.
        offsets: shape ``(documents + 1,)``, int64.
        end_of_text: whether the id 0 opens each row, and whether it closes it.
        ids: shape of at least ``(bytes + 2 * documents,)``; written from its start.
        lengths: shape ``(documents,)``, int64; written: ids of each document.

    Returns:
        How many ids there are.
    """
    opened, closed = np.int64(end_of_text[0]), np.int64(end_of_text[1])
    _walk(cells, roots, follow, last, text, offsets, opened, ids, lengths)
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
    cells: Any, roots: Any, follow: Any, last: Any, text: Any, offsets: Any, opened: int, ids: Any, lengths: Any
) -> None:
    """The ids of each document where there is room for one a byte; ``opened`` places are left free before them."""
    place, begin, stop, kind, row, at = np.zeros((6, LANES), np.int64)
    base, number = np.zeros((2, LANES), np.uint64)
    taken, lanes = 0, 0
    while lanes < LANES and taken < lengths.size:
        _take(offsets, roots, taken, lanes, opened, place, begin, stop, kind, row, at, base, number)
        taken += 1
        lanes += 1
    while lanes:
        for lane in range(lanes):
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
                left = np.int64(text[i - 2]) if i > begin[lane] + 1 else last[kind[lane]]
                kind[lane] = follow[left, text[i - 1]]
                base[lane], number[lane], begin[lane] = roots[kind[lane]], 0, i
            if i == stop[lane]:
                lengths[row[lane]] = at[lane] - (offsets[row[lane]] - offsets[0] + 2 * row[lane])
                if taken < lengths.size:
                    _take(offsets, roots, taken, lane, opened, place, begin, stop, kind, row, at, base, number)
                    taken += 1
                    continue
                lanes -= 1
                place[lane], begin[lane], stop[lane], kind[lane] = place[lanes], begin[lanes], stop[lanes], kind[lanes]
                row[lane], at[lane], base[lane], number[lane] = row[lanes], at[lanes], base[lanes], number[lanes]
                break


@numba.njit(cache=True, nogil=True)
def _take(
    offsets: Any, roots: Any, taken: int, lane: int, opened: int, place: Any, begin: Any, stop: Any, kind: Any, row: Any,
    at: Any, base: Any, number: Any,
) -> None:  # fmt: skip
    """Puts a document on a lane."""
    place[lane] = begin[lane] = offsets[taken]
    stop[lane], kind[lane], row[lane] = offsets[taken + 1], 0, taken
    at[lane] = offsets[taken] - offsets[0] + 2 * taken + opened
    base[lane], number[lane] = roots[0], 0
