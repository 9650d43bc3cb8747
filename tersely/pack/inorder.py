"""First-fit decreasing, and next-fit, which keeps the order of the corpus."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.pack.bestfit import Arrays


def first_fit_decreasing(lengths: np.ndarray[Any, Any], capacity: int) -> Arrays:
    """Each piece, longest first, into the first bin that holds it; results as ``best_fit_decreasing``.

    A tree of maxima over the bins finds that bin in O(log bins).
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    bin_of, bins = _first_fit(lengths, order, capacity)
    offsets = np.zeros(bins + 1, np.int64)
    np.cumsum(np.bincount(bin_of, minlength=bins), out=offsets[1:])
    return order[np.argsort(bin_of[order], kind="stable")].astype(np.int64), offsets


def next_fit(lengths: np.ndarray[Any, Any], capacity: int) -> Arrays:
    """Pieces in their own order, a new bin where the next does not fit; results as ``best_fit_decreasing``."""
    return np.arange(len(lengths)), _next_fit_offsets(lengths, capacity)


@numba.njit(cache=True, nogil=True)
def _first_fit(lengths: Any, order: Any, capacity: int) -> Any:
    leaves = 1
    while leaves < len(order):
        leaves *= 2
    space = np.full(
        2 * leaves, capacity, np.int64
    )  # node i has children 2i and 2i + 1 and holds their maximum
    bin_of = np.empty(len(order), np.int64)
    bins = 0
    for piece in order:
        node = 1
        while node < leaves:
            node *= 2
            if space[node] < lengths[piece]:
                node += 1
        bin_of[piece] = node - leaves
        bins = max(bins, node - leaves + 1)
        space[node] -= lengths[piece]
        while node > 1:
            node //= 2
            space[node] = max(space[2 * node], space[2 * node + 1])
    return bin_of, bins


@numba.njit(cache=True, nogil=True)
def _next_fit_offsets(lengths: Any, capacity: int) -> Any:
    offsets = np.empty(len(lengths) + 1, np.int64)
    bins = 0
    space = 0
    for piece in range(len(lengths)):
        if lengths[piece] > space:
            offsets[bins] = piece
            bins += 1
            space = capacity
        space -= lengths[piece]
    offsets[bins] = len(lengths)
    return offsets[: bins + 1].copy()
