"""Best-fit decreasing in bulk: the plan is made from the histogram of lengths, whole groups of bins at a time.

Best-fit decreasing takes pieces longest first and puts each into the open bin with the least space that still holds
it. Pieces of equal length are interchangeable, and so are bins of equal space, so the state is only: for each space,
which runs of bins have it. Once a piece of length L went into space s, the smallest that holds it, the rest s - L is
the smallest that holds the next piece of length L for as long as it can. So a bin takes s // L of them at once, and a
whole run of bins does so in one step (an "event").

    lengths 5 5 5 2 2, capacity 8:   event (bins 0-2, one piece of 5 each), event (bins 0-1, one piece of 2 each)

The count of bins is that of the piece-by-piece algorithm in ``reference.py``, exactly. Events number a few ten
thousand even for ten million pieces; what remains is a counting sort and one pass that writes the bins.

Method: best-fit decreasing on spaces as in "Fewer Truncations" (arXiv 2404.10830, section 3); the histogram as the
state as in "Efficient Sequence Packing" (arXiv 2107.02027).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Arrays = tuple[np.ndarray[Any, Any], ...]


def best_fit_decreasing(lengths: np.ndarray[Any, Any], capacity: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Packs pieces of ``lengths`` (each in ``1..capacity``) into bins of ``capacity``.

    Returns:
        The pieces, bin after bin and longest first, shape ``(len(lengths),)``, int32 (int64 from 2**31 pieces on);
        and the offsets of the bins in it, shape ``(bins + 1,)``, int64.

    Costs O(pieces + capacity + events) time, and about 12 bytes a piece.
    """
    order = np.empty(len(lengths), np.int32 if len(lengths) < 2**31 else np.int64)
    counts = _sort_longest_first(lengths, capacity, order)
    first_bins, bin_counts, copies, bins = _plan_events(counts, capacity)
    return _write_bins(order, first_bins, bin_counts, copies, bins)


def best_fit_bins(counts: np.ndarray[Any, Any], capacity: int) -> int:
    """How many bins best-fit decreasing needs for ``counts[L]`` pieces of each length ``L <= capacity``."""
    return int(_plan_events(counts, capacity)[3])


@numba.njit(cache=True, nogil=True)
def _sort_longest_first(lengths: Any, capacity: int, order: Any) -> Any:
    """A stable counting sort: fills ``order`` with the pieces by falling length, and returns the histogram."""
    counts = np.zeros(capacity + 1, np.int64)
    for piece in range(lengths.size):
        counts[lengths[piece]] += 1
    place = np.empty(capacity + 1, np.int64)
    total = 0
    for length in range(capacity, -1, -1):
        place[length] = total
        total += counts[length]
    for piece in range(lengths.size):
        length = lengths[piece]
        order[place[length]] = piece
        place[length] += 1
    return counts


@numba.njit(cache=True, nogil=True)
def _plan_events(counts: Any, capacity: int) -> Any:
    """The events of best-fit decreasing, longest pieces first.

    An event is (first bin, number of bins, pieces that each of them takes); their piece length is implied by the
    order. Runs of bins with equal space are kept in a stack for each space: ``top[space]`` is the newest run, and
    ``below[run]`` the one under it.
    """
    words, levels = _empty_set(capacity)
    events = np.empty((1024, 3), np.int64)
    runs = np.empty((1024, 3), np.int64)  # first bin, number of bins, the run below
    top = np.full(capacity + 1, -1, np.int64)
    n_events = n_runs = bins = 0
    for length in range(capacity, 0, -1):
        left = counts[length]
        while left > 0:
            if n_events + 2 > len(events):
                events = _grown(events)
            if n_runs + 3 > len(runs):
                runs = _grown(runs)
            space = _least_member(words, levels, length)
            if space >= 0:
                run = top[space]
                first, count = runs[run, 0], runs[run, 1]
                top[space] = runs[run, 2]
                if top[space] < 0:
                    _remove(words, levels, space)
            else:
                space = capacity
                each = space // length
                first, count = bins, -(-left // each)
                bins += count
            each = space // length
            full = min(count, left // each)
            if full > 0:
                events[n_events] = (first, full, each)
                n_events += 1
                n_runs = _push(words, levels, runs, top, n_runs, space - each * length, first, full)
                left -= full * each
                first += full
                count -= full
            if count > 0 and 0 < left < each:  # the last few pieces top up one bin of the run
                events[n_events] = (first, 1, left)
                n_events += 1
                n_runs = _push(words, levels, runs, top, n_runs, space - left * length, first, 1)
                left = 0
                first += 1
                count -= 1
            if count > 0:
                n_runs = _push(words, levels, runs, top, n_runs, space, first, count)
    events = events[:n_events]
    return events[:, 0].copy(), events[:, 1].copy(), events[:, 2].copy(), bins


@numba.njit(cache=True, nogil=True)
def _push(words: Any, levels: Any, runs: Any, top: Any, n_runs: int, space: int, first: int, count: int) -> Any:
    """Notes that ``count`` bins from ``first`` on now have ``space``; returns the new number of runs."""
    if space == 0:
        return n_runs
    if top[space] < 0:
        _insert(words, levels, space)
    runs[n_runs] = (first, count, top[space])
    top[space] = n_runs
    return n_runs + 1


@numba.njit(cache=True, nogil=True)
def _grown(table: Any) -> Any:
    larger = np.empty((2 * len(table), table.shape[1]), table.dtype)
    larger[: len(table)] = table
    return larger


@numba.njit(cache=True, nogil=True)
def _write_bins(order: Any, first_bins: Any, bin_counts: Any, copies: Any, bins: int) -> Any:
    """Turns events into bins: deals the sorted pieces out, event after event."""
    offsets = np.zeros(bins + 1, np.int64)
    for event in range(len(copies)):
        for b in range(first_bins[event], first_bins[event] + bin_counts[event]):
            offsets[b + 1] += copies[event]
    for b in range(bins):
        offsets[b + 1] += offsets[b]
    free = offsets[:-1].copy()
    packed = np.empty_like(order)
    piece = 0
    for event in range(len(copies)):
        each = copies[event]
        for b in range(first_bins[event], first_bins[event] + bin_counts[event]):
            slot = free[b]
            for copy in range(each):
                packed[slot + copy] = order[piece + copy]
            free[b] = slot + each
            piece += each
    return packed, offsets


# A set of spaces with "least member not below": one bit for each space, and above every 64 bits one bit that says
# whether any of them is set, level upon level. ``levels[i]`` is where level i starts in ``words``.


@numba.njit(cache=True, nogil=True)
def _empty_set(largest: int) -> Any:
    levels = np.zeros(8, np.int64)
    used = 0
    size = largest + 1
    depth = 0
    while True:
        size = (size + 63) // 64
        levels[depth] = used
        used += size
        depth += 1
        if size == 1:
            break
    return np.zeros(used, np.uint64), np.append(levels[:depth], used)


@numba.njit(cache=True, nogil=True)
def _insert(words: Any, levels: Any, member: int) -> None:
    for level in range(len(levels) - 1):
        words[levels[level] + (member >> 6)] |= np.uint64(1) << np.uint64(member & 63)
        member >>= 6


@numba.njit(cache=True, nogil=True)
def _remove(words: Any, levels: Any, member: int) -> None:
    for level in range(len(levels) - 1):
        word = levels[level] + (member >> 6)
        words[word] &= ~(np.uint64(1) << np.uint64(member & 63))
        if words[word] != 0:
            return
        member >>= 6


@numba.njit(cache=True, nogil=True)
def _least_member(words: Any, levels: Any, bound: int) -> int:
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
