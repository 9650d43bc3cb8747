"""The walk of the encoder: a step in the table for each byte, and one more that ends each window."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.table import BASE, LABEL, STEP, STEP_BITS


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
    count = 0
    for row in range(offsets.size - 1):
        before = count
        if end_of_text[0]:
            ids[count] = 0
            count += 1
        place, stop, kind = offsets[row], offsets[row + 1], np.int64(0)
        while place < stop:
            begin = place
            base, number = np.uint64(roots[kind]), np.uint64(0)
            while place < stop:
                byte = np.uint64(text[np.uint64(place)])
                cell = cells[base + byte]
                if cell & np.uint64(LABEL) != byte:
                    break
                number += (cell >> np.uint64(STEP)) & np.uint64((1 << STEP_BITS) - 1)
                base = cell >> np.uint64(BASE)
                place += 1
            ids[count] = number
            count += 1
            if roots.size > 1:
                left = np.int64(text[place - 2]) if place > begin + 1 else last[kind]
                kind = np.int64(follow[left, text[place - 1]])
        if end_of_text[1]:
            ids[count] = 0
            count += 1
        lengths[row] = count - before
    return count
