"""The merges of a byte-level BPE as a hash table, and the loop that applies them to a word.

A merge joins two neighbouring tokens; of all that are possible the one of lowest rank comes first, of equals the leftmost
(Sennrich et al. 2016, section 3.2). With a heap of (rank, place) a word of ``n`` bytes costs ``O(n log n)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

_NONE = np.int64(-1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_FREE = np.uint64(0xFFFFFFFFFFFFFFFF)


class Merges(NamedTuple):
    """Which pairs of ids are joined: slot ``i`` holds ``pairs[i] = left << 32 | right``, its rank, and what it becomes."""

    pairs: Array  # uint64, a power of two of slots; all ones where free
    ranks: Array  # int64
    joined: Array  # int64
    bytes: Array  # int64, (256,): the id of each byte


def merge_table(merges: Sequence[tuple[int, int, int, int]], byte_ids: Sequence[int]) -> Merges:
    """The table of ``(left, right, rank, joined)``, at most half full; of merges of one pair the last one counts."""
    slots = 1 << (2 * len(merges) + 1).bit_length()
    table = Merges(
        np.full(slots, _FREE, np.uint64),
        np.zeros(slots, np.int64),
        np.zeros(slots, np.int64),
        np.array(byte_ids, np.int64),
    )
    numbers = np.fromiter(chain.from_iterable(merges), np.int64, 4 * len(merges))
    _fill(table, numbers.reshape(-1, 4))
    return table


@numba.njit(cache=True, nogil=True)
def _fill(table: Merges, merges: Array) -> None:
    for i in range(len(merges)):
        pair = np.uint64(merges[i, 0]) << _HALF | np.uint64(merges[i, 1])
        slot = _slot(table.pairs, pair)
        table.pairs[slot], table.ranks[slot], table.joined[slot] = pair, merges[i, 2], merges[i, 3]


@numba.njit(cache=True, nogil=True)
def _slot(pairs: Array, pair: np.uint64) -> np.uint64:
    """Where the pair stands, or would."""
    mask = np.uint64(len(pairs) - 1)
    slot = pair * _GOLDEN
    slot = (slot ^ slot >> _HALF) & mask
    while pairs[slot] != pair and pairs[slot] != _FREE:
        slot = (slot + np.uint64(1)) & mask
    return slot


@numba.njit(cache=True, nogil=True)
def _rank(table: Merges, left: Any, right: Any) -> Any:
    """The rank of a pair and what it becomes; -1 if it is not joined."""
    pair = np.uint64(left) << _HALF | np.uint64(right)
    slot = _slot(table.pairs, pair)
    if table.pairs[slot] != pair:
        return _NONE, _NONE
    return table.ranks[slot], table.joined[slot]


@numba.njit(cache=True, nogil=True)
def merge_word(table: Merges, word: Array, out: Array, at: int) -> Any:
    """Writes the ids of ``word``, uint8, to ``out`` from place ``at`` on; returns the place behind them."""
    size = len(word)
    ids, ranks = np.empty(size, np.int64), np.empty(size, np.int64)
    joined, before, after = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    heap, waiting = np.empty(3 * size, np.uint64), 0
    for i in range(size):
        ids[i], ranks[i], before[i], after[i] = table.bytes[word[i]], _NONE, i - 1, i + 1
    for i in range(size - 1):
        ranks[i], joined[i] = _rank(table, ids[i], ids[i + 1])
        if ranks[i] >= 0:
            waiting = _push(heap, waiting, np.uint64(ranks[i]) << _HALF | np.uint64(i))
    while waiting:
        top = heap[0]
        waiting = _pop(heap, waiting)
        i = np.int64(top & np.uint64(0xFFFFFFFF))
        if ranks[i] != np.int64(top >> _HALF):
            continue  # one of the two has been joined with another since
        ids[i], gone = joined[i], after[i]
        after[i], ranks[gone] = after[gone], _NONE
        if after[i] < size:
            before[after[i]] = i
        for left in (before[i], i):
            if left >= 0:
                ranks[left] = _NONE
                if after[left] < size:
                    ranks[left], joined[left] = _rank(table, ids[left], ids[after[left]])
                if ranks[left] >= 0:
                    waiting = _push(heap, waiting, np.uint64(ranks[left]) << _HALF | np.uint64(left))
    i = 0
    while i < size:
        out[at] = ids[i]
        at += 1
        i = after[i]
    return at


@numba.njit(cache=True, nogil=True)
def _push(heap: Array, waiting: int, item: np.uint64) -> int:
    place = waiting
    while place > 0 and heap[(place - 1) >> 1] > item:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = item
    return waiting + 1


@numba.njit(cache=True, nogil=True)
def _pop(heap: Array, waiting: int) -> int:
    """Takes the smallest out; returns how many are left."""
    waiting -= 1
    item, place = heap[waiting], 0
    while True:
        child = 2 * place + 1
        if child >= waiting:
            break
        if child + 1 < waiting and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item
    return waiting
