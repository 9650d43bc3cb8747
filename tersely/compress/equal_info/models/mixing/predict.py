"""The distribution of the next byte, from the probabilities of the bits that lead to it.

There are 255, but bytes that together are less likely than ``2**-18``, a quarter of what a distribution can tell from nothing, are
not asked about: they are alike. Contexts are gone through by their last bytes, so that what short suffixes were followed by, which
is the most work, is added up once for all that share them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.models.mixing.counted import Counted, Tables
from tersely.compress.equal_info.models.mixing.opinions import OPINIONS, WORD, weigh
from tersely.compress.equal_info.models.mixing.words import SPACE, word_of
from tersely.compress.equal_info.models.parts import sum_up_one
from tersely.compress.equal_info.models.rows import longest_row, row_of
from tersely.compress.logistic import EDGE

_ONE = 31
_FAINT = np.uint64(1 << _ONE - 18)


@numba.njit(cache=True, nogil=True)
def distributions(
    wanted: Any,
    order: Any,
    counted: Counted,
    tables: Tables,
    weights: Any,
) -> Any:
    """Sums ``(N, 257)``, int32, behind the contexts ``wanted``, gone through in ``order``."""
    sums = np.empty((wanted.size, 257), np.int32)
    tallies, held = np.zeros((OPINIONS, 512), np.int64), np.full(OPINIONS, -1, np.int64)
    parts, bytes_ = np.empty(256, np.uint64), np.empty(256, np.uint32)
    opinions, used = np.zeros(OPINIONS, np.int64), np.zeros(OPINIONS, np.int64)
    for i in order:
        row = longest_row(wanted[i], counted.contexts, counted.slots)
        longest, above = 0, counted.suffixes[row]
        while above >= 0:
            longest += 1
            above = counted.suffixes[above]
        for length in range(WORD - 1, -1, -1):
            if length > longest:
                _hold(tallies, held, length, -1, counted)
            else:
                _hold(tallies, held, length, row, counted)
                row = counted.suffixes[row]
        word = word_of(wanted[i], counted.folded)
        row = row_of(word, counted.contexts, counted.slots) if word else -1
        _hold(tallies, held, WORD, row, counted)
        parts[1] = 1 << _ONE
        for node in range(1, 256):
            part = parts[node]
            ones = part >> np.uint64(1)
            if part >= _FAINT:
                x = weigh(tallies, node, longest, tables, weights, opinions, used)
                ones = (part * np.uint64(tables.squash[x + EDGE])) >> np.uint64(16)
            if node < 128:
                parts[2 * node], parts[2 * node + 1] = part - ones, ones
            else:
                bytes_[2 * node - 256], bytes_[2 * node - 255] = part - ones, ones
        sum_up_one(bytes_, sums[i])
    return sums


@numba.njit(cache=True, nogil=True)
def known_parts(wanted: Any, counted: Counted) -> Any:
    """What counts of contexts: the longest suffix that is there, or the word where that is longer; uint64.

    A byte that is no letter counts even where it was never seen: a word may begin behind it.
    """
    found = np.empty(wanted.size, np.uint64)
    for i in range(wanted.size):
        found[i] = counted.contexts[longest_row(wanted[i], counted.contexts, counted.slots)]
        last = wanted[i] & np.uint64(255)
        if found[i] == np.uint64(1) and wanted[i] > np.uint64(1) and counted.folded[last] == SPACE:
            found[i] = np.uint64(256) | last
        word = word_of(wanted[i], counted.folded)
        if word >> np.uint64(1) > found[i] and row_of(word, counted.contexts, counted.slots) >= 0:
            mark = np.uint64(1)
            while mark <= word >> np.uint64(9):
                mark <<= np.uint64(8)
            found[i] = mark | (wanted[i] & (mark - np.uint64(1)))
    return found


@numba.njit(cache=True, nogil=True)
def _hold(tallies: Any, held: Any, k: int, row: int, counted: Counted) -> None:
    """How often each node of the tree of bytes was passed behind a row, -1 for none; the root is 1, bytes are 256 to 511."""
    if held[k] == row:
        return
    held[k] = row
    tallies[k] = 0
    if row < 0:
        return
    for entry in range(counted.starts[row], counted.starts[row + 1]):
        node = 256 + np.int64(counted.following[entry])
        while node:
            tallies[k, node] += np.int64(counted.counts[entry])
            node >>= 1
