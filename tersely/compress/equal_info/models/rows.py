"""Contexts that were counted, found by a hash; a row is the place of a context among them.

Every suffix of a context that is there is there as well, for it was seen no less often.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.contexts import shorter


@numba.njit(cache=True, nogil=True)
def hashed(contexts: Any) -> Any:
    """A hash table of the rows of contexts, at most half full; -1 where it is empty."""
    bits = 4
    while (1 << bits) < 2 * contexts.size:
        bits += 1
    slots = np.full(1 << bits, -1, np.int32)
    for row in range(contexts.size):
        slot = _slot(contexts[row], bits)
        while slots[slot] >= 0:
            slot = (slot + 1) & (slots.size - 1)
        slots[slot] = row
    return slots


@numba.njit(cache=True, nogil=True)
def row_of(context: Any, contexts: Any, slots: Any) -> Any:
    """The row of a context, -1 if it is not there."""
    bits = 0
    while (1 << bits) < slots.size:
        bits += 1
    slot = _slot(context, bits)
    while slots[slot] >= 0 and contexts[slots[slot]] != context:
        slot = (slot + 1) & (slots.size - 1)
    return np.int64(slots[slot])


@numba.njit(cache=True, nogil=True)
def longest_row(context: Any, contexts: Any, slots: Any) -> Any:
    """The row of the longest suffix of a context that is there; the empty one must be."""
    row = row_of(context, contexts, slots)
    while row < 0:
        context = shorter(context)
        row = row_of(context, contexts, slots)
    return row


@numba.njit(cache=True, nogil=True)
def longest_rows(wanted: Any, contexts: Any, slots: Any) -> Any:
    """``longest_row`` of each, shape ``(N,)``, int64."""
    rows = np.empty(wanted.size, np.int64)
    for i in range(wanted.size):
        rows[i] = longest_row(wanted[i], contexts, slots)
    return rows


@numba.njit(cache=True, nogil=True)
def suffix_rows(contexts: Any, slots: Any) -> Any:
    """For each context the row of the one without its first byte, -1 for the empty one, which is the first."""
    rows = np.full(contexts.size, -1, np.int64)
    for row in range(1, contexts.size):
        rows[row] = longest_row(shorter(contexts[row]), contexts, slots)
    return rows


@numba.njit(cache=True, nogil=True)
def _slot(context: Any, bits: int) -> Any:
    return np.int64((context * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))
