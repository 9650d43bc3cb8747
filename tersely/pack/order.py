"""The order in which an epoch gives the rows of a plan: which row comes at which position.

    Shuffled     all rows, shuffled by seed and epoch
    Balanced     from a position on, steps put together so that their ranks have equal work (see balance.py)
    GivenFirst   from a position on, the rows that some workers have given already, and then all others

Each of the latter two is laid over another order, which it only rearranges. Nothing is stored but the shuffle of a
small plan: a position is turned into its row when it is asked for, so a reader starts anywhere at once, and a hundred
million rows take no memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tersely.pack.balance import Balance, arrange
from tersely.pack.position import GivenFrom, Level

Vector = np.ndarray[Any, Any]

_SHUFFLED_AS_A_WHOLE = 1 << 16
"""Up to so many rows are shuffled as a whole, which takes half a megabyte."""

_ROUNDS = 6


class Order(Protocol):
    """A permutation of the rows ``0 .. n - 1``."""

    def at(self, positions: Vector) -> Vector:
        """The rows at these positions (int64, each in ``0 .. n - 1``)."""
        ...


def ordered(
    rows: int, seed: tuple[int, int], levels: Sequence[Level], costs: Callable[[Balance, Vector], Vector]
) -> Order:
    """The order of an epoch.

    Args:
        rows: of the plan.
        seed: that of the run, and the epoch.
        levels: what is rearranged, the first one below.
        costs: what rows cost as a balance estimates it.
    """
    order: Order = Shuffled(rows, *seed)
    for level in levels:
        if isinstance(level, GivenFrom):
            order = GivenFirst(order, level.base, level.given)
        else:
            estimate = functools.partial(costs, level.balance)
            order = Balanced(order, level.base, level.world_size, level.balance.window, rows, estimate, seed)
    return order


class Shuffled:
    """All rows, shuffled by seed and epoch.

    Many rows are shuffled by a cipher on the smallest square domain of bits that holds them, applied again as long as
    the result is none of them: Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002), sections 4
    (cycle walking) and 5 (Feistel networks). Its rounds mix with the finalizer of SplitMix64 (Steele, Lea and Flood,
    OOPSLA 2014), which is no secret, but shuffles well.
    """

    def __init__(self, rows: int, seed: int, epoch: int) -> None:
        rng = np.random.default_rng((seed, epoch))
        self._rows = rows
        self._whole = rng.permutation(rows) if rows <= _SHUFFLED_AS_A_WHOLE else None
        self._half = np.uint64((rows.bit_length() + 1) // 2)
        self._keys = rng.integers(0, 2**64, _ROUNDS, dtype=np.uint64)

    def at(self, positions: Vector) -> Vector:
        """The rows at these positions."""
        if self._whole is not None:
            return self._whole[positions]
        rows = self._encrypted(positions.astype(np.uint64))
        while (outside := np.flatnonzero(rows >= self._rows)).size:
            rows[outside] = self._encrypted(rows[outside])
        return rows.astype(np.int64)

    def _encrypted(self, values: Vector) -> Vector:
        mask = (np.uint64(1) << self._half) - np.uint64(1)
        left, right = values >> self._half, values & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) >> (np.uint64(64) - self._half))
        return left << self._half | right


def _mixed(values: Vector) -> Vector:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class GivenFirst:
    """``below``, but from ``base`` on the positions of ``given`` come first, and then all others.

    Args:
        below: the order that is rearranged.
        base: positions before it stay.
        given: half-open ranges of positions from ``base`` on, ascending and apart.
    """

    def __init__(self, below: Order, base: int, given: Sequence[tuple[int, int]]) -> None:
        self._below, self._base = below, base
        self._given = np.concatenate([np.arange(start, stop) for start, stop in given]).astype(np.int64)
        self._others_before = self._given - np.arange(len(self._given)) - base

    def at(self, positions: Vector) -> Vector:
        """The rows at these positions."""
        places = positions - self._base
        others = places - len(self._given)
        jumped = self._base + others + np.searchsorted(self._others_before, others, "right")
        first = self._given[np.clip(places, 0, len(self._given) - 1)]
        return self._below.at(np.where(places < 0, positions, np.where(others < 0, first, jumped)))


class Balanced:
    """``below``, but from ``base`` on in steps of ``world_size`` rows of about equal work.

    A window of steps holds the rows that ``below`` has there. What is left at the end of the epoch, less than a step,
    stays as it is. One window is held in memory.

    Args:
        below: the order that is rearranged.
        base: positions before it stay.
        world_size: ranks, which have a row of each step.
        window: steps that are put together at a time.
        rows: how many there are.
        costs: the work of each of the rows that it is given, int64.
        seed: what steps and ranks are shuffled by.
    """

    def __init__(
        self,
        below: Order,
        base: int,
        world_size: int,
        window: int,
        rows: int,
        costs: Callable[[Vector], Vector],
        seed: tuple[int, int],
    ) -> None:
        self._below, self._base, self._world_size = below, base, world_size
        self._size = world_size * window
        self._costs, self._seed = costs, seed
        self._end = base + (rows - base) // world_size * world_size
        self._window, self._held = -1, np.empty(0, np.int64)

    def at(self, positions: Vector) -> Vector:
        """The rows at these positions."""
        windows = (positions - self._base) // self._size
        windows[(positions < self._base) | (positions >= self._end)] = -1
        rows = np.empty(len(positions), np.int64)
        for window in np.unique(windows).tolist():
            here = windows == window
            if window < 0:
                rows[here] = self._below.at(positions[here])
            else:
                rows[here] = self._rows_of(window)[positions[here] - self._base - window * self._size]
        return rows

    def _rows_of(self, window: int) -> Vector:
        if window != self._window:
            start = self._base + window * self._size
            rows = self._below.at(np.arange(start, min(start + self._size, self._end)))
            rng = np.random.default_rng((*self._seed, self._base, window))
            self._held = rows[arrange(self._costs(rows), self._world_size, rng)].reshape(-1)
            self._window = window
        return self._held
