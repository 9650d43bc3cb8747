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

from tersely.pack.spaces import empty_set, insert, least_member, remove

Arrays = tuple[np.ndarray[Any, Any], ...]


def best_fit_decreasing(
    lengths: np.ndarray[Any, Any], capacity: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Packs pieces of ``lengths`` (each in ``1..capacity``) into bins of ``capacity``.

    Returns:
        The pieces, bin after bin and longest first, shape ``(len(lengths),)``, int32 (int64 from 2**31 pieces on);
        and the offsets of the bins in it, shape ``(bins + 1,)``, int64.

    Costs O(pieces + capacity + events) time, and about 12 bytes a piece.
    """
    order = np.empty(len(lengths), np.int32 if len(lengths) < 2**31 else np.int64)
    counts = _sort_longest_first(lengths, capacity, order)
    events, bins = _plan_events(counts, capacity)
    return _write_bins(order, events, bins)


def best_fit_bins(counts: np.ndarray[Any, Any], capacity: int) -> int:
    """How many bins best-fit decreasing needs for ``counts[L]`` pieces of each length ``L <= capacity``."""
    return int(_plan_events(counts, capacity)[1])


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
    words, levels = empty_set(capacity)
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
            space = least_member(words, levels, length)
            if space >= 0:
                run = top[space]
                first, count = runs[run, 0], runs[run, 1]
                top[space] = runs[run, 2]
                if top[space] < 0:
                    remove(words, levels, space)
            else:
                space = capacity
                each = space // length
                first, count = bins, -(-left // each)
                bins += count
            each = space // length
            full = min(count, left // each)
            if full > 0:
                n_events = _append(events, n_events, first, full, each)
                n_runs = _push(words, levels, runs, top, n_runs, space - each * length, first, full)
                left -= full * each
                first += full
                count -= full
            if count > 0 and 0 < left < each:  # the last few pieces top up one bin of the run
                n_events = _append(events, n_events, first, 1, left)
                n_runs = _push(words, levels, runs, top, n_runs, space - left * length, first, 1)
                left = 0
                first += 1
                count -= 1
            if count > 0:
                n_runs = _push(words, levels, runs, top, n_runs, space, first, count)
    return events[:n_events], bins


@numba.njit(cache=True, nogil=True)
def _push(
    words: Any, levels: Any, runs: Any, top: Any, n_runs: int, space: int, first: int, count: int
) -> Any:
    """Notes that ``count`` bins from ``first`` on now have ``space``; returns the new number of runs."""
    if space == 0:
        return n_runs
    if top[space] < 0:
        insert(words, levels, space)
    below = top[space]
    top[space] = n_runs
    return _append(runs, n_runs, first, count, below)


@numba.njit(cache=True, nogil=True)
def _append(table: Any, size: int, first: int, second: int, third: int) -> int:
    table[size, 0], table[size, 1], table[size, 2] = first, second, third
    return size + 1


@numba.njit(cache=True, nogil=True)
def _grown(table: Any) -> Any:
    larger = np.empty((2 * len(table), table.shape[1]), table.dtype)
    for row in range(len(table)):  # element by element: numba compiles this ten times as fast as a slice
        for column in range(table.shape[1]):
            larger[row, column] = table[row, column]
    return larger


@numba.njit(cache=True, nogil=True)
def _write_bins(order: Any, events: Any, bins: int) -> Any:
    """Turns events into bins: deals the sorted pieces out, event after event."""
    offsets = np.zeros(bins + 1, np.int64)
    for event in range(len(events)):
        each = events[event, 2]
        for b in range(events[event, 0], events[event, 0] + events[event, 1]):
            offsets[b + 1] += each
    for b in range(bins):
        offsets[b + 1] += offsets[b]
    free = offsets[:-1].copy()
    packed = np.empty_like(order)
    piece = 0
    for event in range(len(events)):
        each = events[event, 2]
        for b in range(events[event, 0], events[event, 0] + events[event, 1]):
            slot = free[b]
            for copy in range(each):
                packed[slot + copy] = order[piece + copy]
            free[b] = slot + each
            piece += each
    return packed, offsets
