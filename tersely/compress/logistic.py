"""Logarithms and their inverse as tables of integers, made by integer arithmetic alone: the same on every machine.

A probability is an integer out of 65,536. Its logistic, ``ln(p / (1 - p))``, is an integer in 256ths: the models' opinions are
added up there, and come back by ``squash``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

EDGE = 3071
"""Logistics are kept within this distance of zero: 12 nats, more than a probability of 16 bits can tell."""
COUNT_LIMIT = 1023
"""The largest count that a place of an adaptive map can hold."""

LOGARITHMS = 4096
"""Counts below this have a logarithm in the table."""

_ONE = 1 << 96


def squash_table() -> Any:
    """For each logistic ``x`` from -EDGE to EDGE, at ``x + EDGE``, the probability, 1 to 65,535; uint16."""
    up, down = _exponential(_ONE // 256), _exponential(-(_ONE // 256))
    table = np.empty(2 * EDGE + 1, np.uint16)
    grown, shrunk = _ONE, _ONE
    for x in range(EDGE + 1):
        table[EDGE + x] = min(65535, (_ONE << 16) // (_ONE + shrunk))
        table[EDGE - x] = max(1, (_ONE << 16) // (_ONE + grown))
        grown, shrunk = grown * up // _ONE, shrunk * down // _ONE
    return table


def stretch_table() -> Any:
    """For each probability ``p``, at ``p >> 4``, its logistic, -2307 to 2307; int32.

    That of a cell is the least whose ``squash`` is not below the middle of the cell, and the table is odd about its middle.
    """
    squash = squash_table()
    upper = np.searchsorted(squash, np.arange(2048, 4096) * 16 + 8).astype(np.int32) - EDGE
    return np.concatenate([-upper[::-1], upper])


def reciprocal_table() -> Any:
    """For a place that was seen ``n`` times, how far it moves next time: 1 / (n + 1.5) of 65,536ths; int32."""
    return np.array([131072 // (2 * n + 3) for n in range(COUNT_LIMIT + 1)], np.int32)


def log_table() -> Any:
    """For each count ``n`` below ``LOGARITHMS``, ``ln(2 n + 1)`` in 256ths, rounded to the nearest; int32.

    ``table[ones] - table[zeros]`` is the logistic of a bit that was seen so often, each counted half a time more.
    """
    table = np.empty(LOGARITHMS, np.int32)
    total = 0
    for n in range(LOGARITHMS):
        table[n] = (256 * total + _ONE // 2) // _ONE
        power = _ONE // (2 * n + 2)  # ln((2 n + 3) / (2 n + 1)) is 2 artanh(1 / (2 n + 2))
        odd = 1
        while power:
            total += 2 * power // odd
            power //= (2 * n + 2) ** 2
            odd += 2
    return table


def _exponential(x: int) -> int:
    """``e**x`` in 2**96ths, by its series."""
    total, term, n = _ONE, _ONE, 1
    while term:
        term = term * x // (_ONE * n)
        total += term
        if term == -1:  # what rounding down leaves of a negative term
            break
        n += 1
    return total
