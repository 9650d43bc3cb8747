"""A set of small integers, such as the spaces left in bins, that finds its least member from a bound on.

One bit for each integer; above every 64 bits one bit that says whether any of them is set, level upon level, so that
every operation touches one word a level. ``levels[i]`` is where level ``i`` starts in ``words``, and the last entry
is the end.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def empty_set(largest: int) -> Any:
    """A set of members ``0 .. largest`` with none in it, as ``(words, levels)``."""
    levels = [0]
    size = largest + 1
    while True:
        size = (size + 63) // 64
        levels.append(levels[-1] + size)
        if size == 1:
            break
    starts = np.empty(len(levels), np.int64)
    for level in range(len(levels)):
        starts[level] = levels[level]
    return np.zeros(levels[-1], np.uint64), starts


@numba.njit(cache=True, nogil=True)
def insert(words: Any, levels: Any, member: int) -> None:
    """Puts ``member`` in."""
    for level in range(len(levels) - 1):
        words[levels[level] + (member >> 6)] |= np.uint64(1) << np.uint64(member & 63)
        member >>= 6


@numba.njit(cache=True, nogil=True)
def remove(words: Any, levels: Any, member: int) -> None:
    """Takes ``member`` out."""
    for level in range(len(levels) - 1):
        word = levels[level] + (member >> 6)
        words[word] &= ~(np.uint64(1) << np.uint64(member & 63))
        if words[word] != 0:
            return
        member >>= 6


@numba.njit(cache=True, nogil=True)
def least_member(words: Any, levels: Any, bound: int) -> int:
    """The least member that is at least ``bound``, or -1."""
    level = 0
    index = bound
    while True:
        word = levels[level] + (index >> 6)
        if word >= levels[level + 1]:
            return -1
        bits = words[word] & (~np.uint64(0) << np.uint64(index & 63))
        if bits != 0:
            index = (index >> 6 << 6) + _lowest_bit(bits)
            break
        level += 1
        if level == len(levels) - 1:
            return -1
        index = (index >> 6) + 1
    while level > 0:
        level -= 1
        index = (index << 6) + _lowest_bit(words[levels[level] + index])
    return index


@numba.njit(cache=True, nogil=True)
def _lowest_bit(bits: Any) -> int:
    """The place of the lowest set bit of a non-zero word, by halving."""
    place = 0
    for half in (32, 16, 8, 4, 2, 1):
        if bits & ((np.uint64(1) << np.uint64(half)) - np.uint64(1)) == 0:
            bits >>= np.uint64(half)
            place += half
    return place
