"""The weights, learned from places of the text that are drawn at random, behind a random number of bytes.

A window begins anywhere, so every number of bytes up to 7 is shown as often. The text was counted already; what a place itself
added is taken off its counts there, as if it was new: otherwise the longest contexts would look as if they were always right.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.models.mixing.counted import Counted, Tables
from tersely.compress.equal_info.models.mixing.opinions import OPINIONS, ORDER, WORD, weigh
from tersely.compress.equal_info.models.mixing.words import word_of
from tersely.compress.equal_info.models.rows import longest_row, row_of
from tersely.compress.logistic import EDGE

FIRST_SLOWNESS, LAST_SLOWNESS = 7, 11
"""Weights learn ever slower: what a bit moves them by is halved so often, in as many equal parts of the time."""


@numba.njit(cache=True, nogil=True)
def learn(
    text: Any,
    offsets: Any,
    places: int,
    enough: Any,
    counted: Counted,
    tables: Tables,
    weights: Any,
) -> None:
    """Changes ``weights`` in place.

    Args:
        text: shape ``(B,)``, uint8, not empty, less than ``2**32``.
        offsets: of its documents.
        places: how many to learn from.
        enough: shape ``(C,)``, bool: whether a context would have been kept if it had been seen once less.
        counted: contexts and what followed them.
        tables: of logarithms and classes.
        weights: shape ``(W,)``, int64.
    """
    tallies = np.zeros((OPINIONS, 16), np.int64)
    opinions, used = np.zeros(OPINIONS, np.int64), np.zeros(OPINIONS, np.int64)
    state = np.uint64(1)
    for drawn in range(places):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        i = np.int64(((state >> np.uint64(32)) * np.uint64(text.size)) >> np.uint64(32))
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        shown = np.int64(((state >> np.uint64(32)) * np.uint64(ORDER + 1)) >> np.uint64(32))
        begin = offsets[np.searchsorted(offsets, i, side="right") - 1]
        context = np.uint64(1)
        for j in range(max(begin, i - shown), i):
            context = (context << np.uint64(8)) | np.uint64(text[j])
        byte = np.int64(text[i])
        longest = _tally_all(tallies, context, byte, enough, counted)
        slowness = FIRST_SLOWNESS + drawn * (LAST_SLOWNESS + 1 - FIRST_SLOWNESS) // places
        for bit in range(8):
            x = weigh(tallies, bit, longest, tables, weights, opinions, used)
            error = ((byte >> (7 - bit) & 1) << 16) - np.int64(tables.squash[x + EDGE])
            for k in range(OPINIONS):
                weights[used[k]] += (opinions[k] * error) >> slowness


@numba.njit(cache=True, nogil=True)
def _tally_all(tallies: Any, context: Any, byte: Any, enough: Any, counted: Counted) -> Any:
    """Fills ``tallies`` for the bits of a byte, and returns the length of the longest context; without the place itself."""
    tallies[:] = 0
    row = longest_row(context, counted.contexts, counted.slots)
    while counted.suffixes[row] >= 0 and not enough[row]:
        row = counted.suffixes[row]
    longest = _length(counted.contexts[row])
    for length in range(longest, -1, -1):
        _tally(tallies, length, byte, row, counted)
        row = counted.suffixes[row]
    word = word_of(context, counted.folded)
    if word:
        row = row_of(word, counted.contexts, counted.slots)
        if row >= 0 and enough[row]:
            _tally(tallies, WORD, byte, row, counted)
    return longest


@numba.njit(cache=True, nogil=True)
def _length(context: Any) -> Any:
    length = 0
    while context > np.uint64(1):
        context >>= np.uint64(8)
        length += 1
    return length


@numba.njit(cache=True, nogil=True)
def _tally(tallies: Any, k: int, byte: Any, row: Any, counted: Counted) -> None:
    """For each bit of ``byte``, after those before it, how often a row had which; without the place itself."""
    for entry in range(counted.starts[row], counted.starts[row + 1]):
        other, count = np.int64(counted.following[entry]), np.int64(counted.counts[entry])
        if other == byte:
            count -= 1
        for bit in range(8):
            found = other >> (7 - bit) & 1
            tallies[k, 2 * bit + found] += count
            if found != byte >> (7 - bit) & 1:
                break
