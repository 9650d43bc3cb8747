"""Mixed bins: as few as best-fit decreasing needs, but composed as a shuffled corpus would compose them.

Best-fit decreasing puts long documents with long ones, so a bin holds anything from 3 to 1500 documents and a batch
is far from a sample of the corpus. Where packing is already tight, who sits with whom is free. Two steps use that:

1. Deal (``_deal``). The bins that best-fit needs are all opened at once. The longest pieces go in first, each into
   the emptiest bin; then the middle of the corpus in shuffled order, the same way, so that all bins fill evenly with
   a random mix; then the shortest pieces, a few percent of the tokens, by best fit into the gaps that are left.
   If a piece finds no room, more of the tokens are kept for the last part; best-fit decreasing itself is the end
   of that road, so the count of bins is always its count.
2. Swap (``_swap_round``). The gaps that the shortest pieces filled give some bins far too many of them. A run of
   pieces of such a bin is exchanged for one piece of exactly its total length in a bin with few pieces; both stay
   as full as they were.

Cost: best-fit plus a sort of the lengths and about ten passes; one million pieces take about a second.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.pack.bestfit import best_fit_decreasing
from tersely.pack.spaces import empty_set, insert, least_member, remove

_LONG = 8
"""Pieces longer than ``capacity / 8`` are dealt first: later they would find no bin empty enough."""

_GAP_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.6)
"""Shares of the tokens that are kept back, shortest pieces first, to fill the gaps; tried in turn."""

_SWAP_ROUNDS = 8
_SWAP_TRIES = 24


def mix(
    lengths: np.ndarray[Any, Any], capacity: int, seed: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Packs pieces as ``best_fit_decreasing`` does (same arguments, results and count of bins), but mixed.

    ``seed`` decides the shuffle; the result depends on nothing else.
    """
    packed, offsets = best_fit_decreasing(lengths, capacity)
    bins = len(offsets) - 1
    if bins < 2:
        return packed, offsets
    by_length = np.argsort(lengths, kind="stable")
    bin_of = _dealt(lengths, by_length, capacity, bins, seed)
    if bin_of is None:
        bin_of = np.empty(len(lengths), np.int64)
        bin_of[packed] = np.repeat(np.arange(bins), np.diff(offsets))
    starts = np.searchsorted(lengths[by_length], np.arange(int(lengths.max()) + 2))
    for swap_round in range(_SWAP_ROUNDS):
        members, offsets = _members(bin_of, bins)
        counts = np.diff(offsets)
        crowded = np.argsort(-counts, kind="stable")
        crowded = crowded[counts[crowded] > 1.5 * len(lengths) / bins + 2]
        if not _swap_round(lengths, by_length, starts, bin_of, members, offsets, crowded, seed + swap_round):
            break
    members, offsets = _members(bin_of, bins)
    return members.astype(packed.dtype), offsets


def _members(bin_of: np.ndarray[Any, Any], bins: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The pieces of each bin in a row, and where each bin starts."""
    offsets = np.zeros(bins + 1, np.int64)
    np.cumsum(np.bincount(bin_of, minlength=bins), out=offsets[1:])
    return np.argsort(bin_of, kind="stable"), offsets


def _dealt(
    lengths: np.ndarray[Any, Any], by_length: np.ndarray[Any, Any], capacity: int, bins: int, seed: int
) -> np.ndarray[Any, Any] | None:
    """The bin of each piece after step 1, or None if no share of gap fillers let everything fit."""
    rng = np.random.default_rng(seed)
    tokens = np.cumsum(lengths[by_length], dtype=np.int64)
    n_long = int(np.count_nonzero(lengths > capacity // _LONG))
    for share in _GAP_SHARES:
        n_short = int(np.searchsorted(tokens, share * float(tokens[-1]), "right"))
        n_dealt = len(lengths) - n_short
        order = by_length[::-1].copy()
        rng.shuffle(order[min(n_long, n_dealt) : n_dealt])
        bin_of = np.empty(len(lengths), np.int64)
        if _deal(lengths, order, n_dealt, capacity, bins, bin_of):
            return bin_of
    return None


@numba.njit(cache=True, nogil=True)
def _deal(lengths: Any, order: Any, n_dealt: int, capacity: int, bins: int, bin_of: Any) -> bool:
    """The first ``n_dealt`` pieces of ``order`` into the emptiest bin each, the others by best fit; False if one
    found no room. Bins of equal space are a stack: ``top[space]``, and ``below[bin]`` the one under it.
    """
    words, levels = empty_set(capacity)
    top = np.full(capacity + 1, -1, np.int64)
    below = np.arange(bins) - 1
    top[capacity] = bins - 1
    insert(words, levels, capacity)
    emptiest = capacity
    for place in range(len(order)):
        piece = order[place]
        length = lengths[piece]
        if place < n_dealt:
            while top[emptiest] < 0:
                emptiest -= 1
            space = emptiest if emptiest >= length else -1
        else:
            space = least_member(words, levels, length)
        if space < 0:
            return False
        chosen = top[space]
        bin_of[piece] = chosen
        top[space] = below[chosen]
        if top[space] < 0:
            remove(words, levels, space)
        space -= length
        if top[space] < 0:
            insert(words, levels, space)
        below[chosen] = top[space]
        top[space] = chosen
    return True


@numba.njit(cache=True, nogil=True)
def _swap_round(
    lengths: Any,
    by_length: Any,
    starts: Any,
    bin_of: Any,
    members: Any,
    offsets: Any,
    crowded: Any,
    seed: int,
) -> int:
    """One exchange at most for each crowded bin, none for a bin that took part already; how many were made.

    ``by_length[starts[L]:starts[L + 1]]`` are the pieces of length ``L``.
    """
    np.random.seed(seed % 2**32)
    mean = len(members) // (len(offsets) - 1)
    done = np.zeros(len(offsets) - 1, np.bool_)
    swaps = 0
    for crowd in crowded:
        first, held = offsets[crowd], offsets[crowd + 1] - offsets[crowd]
        if done[crowd] or held < 3:
            continue
        for _ in range(_SWAP_TRIES):
            given = np.random.randint(2, max(3, held - mean + 1))
            run = first + np.random.randint(0, held - given + 1)
            total = np.int64(0)
            for place in range(run, run + given):
                total += lengths[members[place]]
            if total > len(starts) - 2 or starts[total] == starts[total + 1]:
                continue
            partner = _partner(
                by_length, starts[total], starts[total + 1], bin_of, offsets, done, crowd, given
            )
            if partner < 0:
                continue
            other = bin_of[partner]
            bin_of[partner] = crowd
            for place in range(run, run + given):
                bin_of[members[place]] = other
            done[crowd] = done[other] = True
            swaps += 1
            break
    return swaps


@numba.njit(cache=True, nogil=True)
def _partner(
    by_length: Any, first: int, last: int, bin_of: Any, offsets: Any, done: Any, crowd: int, given: int
) -> int:
    """One of the pieces ``by_length[first:last]`` whose bin gains by the exchange, or -1; eight are looked at."""
    held = offsets[crowd + 1] - offsets[crowd]
    start = np.random.randint(0, last - first)
    for step in range(min(8, last - first)):
        piece = by_length[first + (start + step) % (last - first)]
        other = bin_of[piece]
        theirs = offsets[other + 1] - offsets[other]
        if other != crowd and not done[other] and max(theirs - 1 + given, held - given + 1) < held:
            return piece
    return -1
