"""What is asked about a bit, and how the answers are weighed.

Each of the suffixes of a context says how often a 0 and a 1 followed it, given the bits of the byte so far: its opinion is the
logistic of that. The longest of those that know anything is the judge: its length, how much it has seen and how many longer ones
know nothing choose the set of weights, and within the set each opinion is weighed by what it rests on itself.

    counts (0, 7) -> ln(15 / 1), class "7, never the other"  -\
    counts (3, 40) -> ln(81 / 7), class "about 43, 3 or more" -> sum of weight times opinion -> probability of a 1
    ...                                                      -/

Logistic mixing is that of M. Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression" (2005), in integers.
Numbers are ``K`` opinions: of the suffixes of 0 to 7 bytes, and of the word.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.models.mixing.counted import Tables
from tersely.compress.logistic import EDGE, LOGARITHMS

ORDER = 7
"""Bytes of the longest context."""
WORD = ORDER + 1
"""The place of the opinion of the word."""
OPINIONS = ORDER + 2
CLASSES = 64
"""Of the counts that an opinion rests on: 16 of how many, and each of these 4 of the rarer bit, 0, 1, 2 and more."""
SETS = (ORDER + 1) * 16 * 3
"""Of weights."""
ONE = 24
"""Binary places of a weight."""

_LN2 = 45426  # in 65,536ths


def size_classes() -> Any:
    """For each count below ``LOGARITHMS`` its class, 0 to 14; larger ones are of class 15. Shape ``(LOGARITHMS,)``, uint8."""
    bounds = [2, 3, 4, 6, 8, 12, *(1 << power for power in range(4, 12))]
    return np.searchsorted(bounds, np.arange(LOGARITHMS), side="right").astype(np.uint8)


def first_weights() -> Any:
    """What weights are before they have learned anything: the longest context counts most; shape ``(W,)``, int64."""
    weights = np.full((ORDER + 1, SETS // (ORDER + 1), OPINIONS, CLASSES), (1 << ONE) // 16, np.int64)
    for length in range(ORDER + 1):
        weights[length, :, length] = (1 << ONE) * 3 // 4
    return weights.reshape(-1)


@numba.njit(cache=True, nogil=True)
def weigh(
    tallies: Any,
    node: int,
    longest: int,
    tables: Tables,
    weights: Any,
    opinions: Any,
    places: Any,
) -> Any:
    """The logistic of a 1, in 256ths.

    Args:
        tallies: shape ``(K, 2 * nodes)``, int64: how often a 0, at ``2 * node``, and a 1, behind it, followed each context.
        node: the place of the bit.
        longest: the longest context that was counted.
        tables: of logarithms and classes.
        weights: shape ``(W,)``.
        opinions: shape ``(K,)``, int64, is filled; 0 where there is none.
        places: shape ``(K,)``, int64, is filled: the weight of each opinion.
    """
    zeros, ones = 2 * node, 2 * node + 1
    judge = longest
    while judge > 0 and tallies[judge, zeros] + tallies[judge, ones] == 0:
        judge -= 1
    seen = _size(tallies[judge, zeros] + tallies[judge, ones], tables.sizes)
    first = ((judge * 16 + seen) * 3 + min(2, longest - judge)) * OPINIONS
    total = 0
    for k in range(OPINIONS):
        n0, n1 = tallies[k, zeros], tallies[k, ones]
        places[k] = (first + k) * CLASSES
        opinions[k] = 0
        if n0 + n1 > 0:
            places[k] += _size(n0 + n1, tables.sizes) * 4 + min(3, n0, n1)
            opinions[k] = min(EDGE, max(-EDGE, _log(n1, tables.logs) - _log(n0, tables.logs)))
            total += np.int64(weights[places[k]]) * opinions[k]
    return min(EDGE, max(-EDGE, total >> ONE))


@numba.njit(cache=True, nogil=True)
def _size(count: Any, sizes: Any) -> Any:
    return np.int64(sizes[count]) if count < LOGARITHMS else 15


@numba.njit(cache=True, nogil=True)
def _log(count: Any, logs: Any) -> Any:
    halved = 0
    while count >= LOGARITHMS:
        count >>= 1
        halved += 1
    return np.int64(logs[count]) + (halved * _LN2 >> 8)
