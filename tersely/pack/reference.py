"""Slow, plain twins of the fast code of this room, which the tests compare with it.

A planner takes piece lengths and gives lists of bins.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Piece numbers in order of falling length, equal lengths in their own order."""
    return sorted(range(len(lengths)), key=lambda piece: -lengths[piece])


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Each piece, longest first, into the bin with the least space that holds it."""
    bins: list[list[int]] = []
    open_bins: list[tuple[int, int]] = []  # (space, bin), sorted
    for piece in longest_first(lengths):
        place = bisect_left(open_bins, (lengths[piece], -1))
        if place == len(open_bins):
            space, chosen = capacity, len(bins)
            bins.append([])
        else:
            space, chosen = open_bins.pop(place)
        bins[chosen].append(piece)
        insort(open_bins, (space - lengths[piece], chosen))
    return bins


def first_fit(lengths: Sequence[int], capacity: int, order: Sequence[int]) -> list[list[int]]:
    """Each piece, in ``order``, into the first bin that holds it."""
    bins: list[list[int]] = []
    spaces: list[int] = []
    for piece in order:
        chosen = next((b for b, space in enumerate(spaces) if space >= lengths[piece]), len(bins))
        if chosen == len(bins):
            bins.append([])
            spaces.append(capacity)
        bins[chosen].append(piece)
        spaces[chosen] -= lengths[piece]
    return bins


def next_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pieces in their own order; a new bin where the next one does not fit."""
    bins: list[list[int]] = []
    space = -1
    for piece, length in enumerate(lengths):
        if length > space:
            bins.append([])
            space = capacity
        bins[-1].append(piece)
        space -= length
    return bins


def ranges_of(stored: Sequence[tuple[int, int, int]], start: int, stop: int) -> list[tuple[int, int, int]]:
    """Where tokens ``start`` to ``stop`` of a document are whose pieces are stored as (shard, first token, tokens)."""
    found: list[tuple[int, int, int]] = []
    begin = 0
    for shard, offset, length in stored:
        low, high = max(start, begin), min(stop, begin + length)
        if low < high:
            found.append((shard, offset + low - begin, high - low))
        begin += length
    return found
