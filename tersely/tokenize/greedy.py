"""Greedy longest match, compiled: a trie walked from the end of each token."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.tokenize.trie import BASE, FINAL, LABEL, ROOT


@numba.njit(cache=True, nogil=True)
def encode_greedy(cells: Any, values: Any, text: Any, offsets: Any, bos: int, eos: int, ids: Any) -> Any:
    """Fills ``ids`` with the tokens of all documents, one after another.

    Args:
        cells: the cells of a ``Trie`` of the tokens.
        values: its values, which are the ids of the tokens.
        text: shape ``(total,)``, uint8.
        offsets: shape ``(documents + 1,)``, int64, of the documents in ``text``.
        bos: the id that opens each document, -1 for none.
        eos: the id that closes each document, -1 for none.
        ids: shape at least ``(total + 2 * documents,)``, uint32; written.

    Returns:
        How many ids each document has, shape ``(documents,)``, int64; and -1, or the place in ``text`` at which no
        token begins.
    """
    lengths = np.zeros(offsets.size - 1, np.int64)
    count = 0
    for document in range(offsets.size - 1):
        before = count
        if bos >= 0:
            ids[count] = bos
            count += 1
        place = offsets[document]
        stop = offsets[document + 1]
        while place < stop:
            cell, end = _longest(cells, text, place, stop)
            if end == place:
                return lengths, place
            ids[count] = values[cell]
            count += 1
            place = end
        if eos >= 0:
            ids[count] = eos
            count += 1
        lengths[document] = count - before
    return lengths, np.int64(-1)


@numba.njit(cache=True, nogil=True)
def _longest(cells: Any, text: Any, start: Any, stop: Any) -> Any:
    """The cell in which the longest word at ``start`` ends, and where; the word is empty if there is none."""
    base = cells[ROOT] >> BASE
    found = np.int64(ROOT)
    end = start
    for place in range(start, stop):
        byte = np.int64(text[place])
        cell = cells[base + byte]
        if cell & LABEL != byte:
            break
        if cell & FINAL:
            found = base + byte
            end = place + 1
        base = cell >> BASE
    return found, end
