"""Contexts of seven bytes, which ``count.py`` has no room for: counted by a sort of their own.

A context and the byte behind it are 64 bits, so a place is counted only where its document has begun seven bytes before.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.models.count import Counts
from tersely.ragged import Ragged

SEVEN = 7


def with_sevens(counts: Counts, documents: Ragged, least: int, most_contexts: int) -> tuple[Counts, int]:
    """The counts with those of seven bytes behind them, of contexts seen ``least`` times or as often as it takes; how often."""
    places = _places(documents.values, documents.offsets)
    places.sort()
    contexts, ends, following, found = _collect(places, least)
    while len(contexts) > most_contexts:
        least *= 2
        contexts, ends, following, found = _collect(places, least)
    return Counts(
        np.concatenate([counts.contexts, contexts]),
        np.concatenate([counts.offsets, counts.offsets[-1] + ends]),
        np.concatenate([counts.following, following]),
        np.concatenate([counts.counts, found]),
        counts.seldom,
    ), least


@numba.njit(cache=True, nogil=True)
def _places(text: Any, offsets: Any) -> Any:
    """The seven bytes before a byte, the latest lowest, and the byte; for each that has so many."""
    found = np.empty(text.size, np.uint64)
    count = 0
    for row in range(offsets.size - 1):
        place = np.uint64(0)
        for i in range(offsets[row], offsets[row + 1]):
            place = (place << np.uint64(8)) | np.uint64(text[i])
            if i - offsets[row] >= SEVEN:
                found[count] = place
                count += 1
    return found[:count].copy()


@numba.njit(cache=True, nogil=True)
def _collect(places: Any, least: int) -> Any:
    """One pass over sorted places: contexts seen ``least`` times, where their entries end, bytes and counts."""
    contexts, ends = np.empty(places.size // least, np.uint64), np.empty(places.size // least, np.int64)
    following, counts = np.empty(places.size, np.uint8), np.empty(places.size, np.uint32)
    kept, entries, first = 0, 0, 0
    while first < places.size:
        context, last, begun = places[first] >> np.uint64(8), first, entries
        while last < places.size and places[last] >> np.uint64(8) == context:
            if last == first or places[last] != places[last - 1]:
                following[entries], counts[entries] = places[last] & np.uint64(255), 0
                entries += 1
            counts[entries - 1] += 1
            last += 1
        if last - first >= least:
            contexts[kept], ends[kept] = context | np.uint64(1 << 8 * SEVEN), entries
            kept += 1
        else:
            entries = begun
        first = last
    return contexts[:kept].copy(), ends[:kept].copy(), following[:entries].copy(), counts[:entries].copy()
