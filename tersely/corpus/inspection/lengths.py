"""How often each length occurs: all that percentiles and histograms need, in little memory.

A corpus of T tokens has at most about sqrt(2 T) different lengths, because that many different ones sum to T already: of
10^12 tokens 1.4 million, however many documents there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

_WAITING = 1 << 20
"""Lengths that wait at least before they are merged with those before."""

PERCENTILES = (1, 10, 25, 50, 75, 90, 99, 99.9)


@dataclass(frozen=True)
class Lengths:
    """Lengths that occur, ascending, and how often; both int64, shape ``(lengths,)``."""

    length: np.ndarray[Any, Any]
    count: np.ndarray[Any, Any]

    @property
    def documents(self) -> int:
        """How many there are."""
        return int(self.count.sum())

    @property
    def tokens(self) -> int:
        """Their sum."""
        return int(self.length @ self.count)

    @property
    def longest(self) -> int:
        """The greatest, 0 if there is none."""
        return int(self.length[-1]) if len(self.length) else 0

    def percentile(self, percent: float) -> int:
        """The least length that at least ``percent`` per cent of the documents do not exceed (0 if there are none)."""
        return self._at(np.cumsum(self.count), percent)

    def token_percentile(self, percent: float) -> int:
        """The same of tokens: the least length so that documents up to it hold ``percent`` per cent of the tokens."""
        return self._at(np.cumsum(self.count * self.length), percent)

    def _at(self, sums: np.ndarray[Any, Any], percent: float) -> int:
        if not len(sums):
            return 0
        # In units of 1/10 per cent, so that all is whole numbers and exact.
        wanted = -(-int(sums[-1]) * round(percent * 10) // 1000)
        return int(self.length[np.searchsorted(sums, max(wanted, 1))])

    def histogram(self) -> list[tuple[int, int, int, int]]:
        """From, to (exclusive), documents, tokens; from the first to the last that is not empty, four steps an octave."""
        if not len(self.length):
            return []
        edges = _edges(self.longest)
        places = np.searchsorted(edges, self.length, "right") - 1
        documents, tokens = np.zeros((2, len(edges)), np.int64)
        np.add.at(documents, places, self.count)
        np.add.at(tokens, places, self.count * self.length)
        bins = range(int(places[0]), int(places[-1]) + 1)
        return [(edges[i], edges[i + 1], int(documents[i]), int(tokens[i])) for i in bins]


def _edges(longest: int) -> list[int]:
    """0, 1, 2, ... 7, 8, 10, 12, 14, 16, 20, ... to above ``longest``."""
    edges = [0, 1, 2, 3]
    while edges[-1] <= longest:
        edges += [edge << max(0, len(edges) // 4 - 1) for edge in (4, 5, 6, 7)]
    return edges


@dataclass
class LengthCounter:
    """Collects lengths, in amounts of any size, into ``Lengths``."""

    _merged: Lengths = field(default_factory=lambda: Lengths(np.empty(0, np.int64), np.empty(0, np.int64)))
    _waiting: list[Lengths] = field(default_factory=list[Lengths])
    _held: int = 0

    def add(self, lengths: np.ndarray[Any, Any]) -> None:
        """Takes more lengths, integers from 0 on."""
        length, count = np.unique(np.asarray(lengths, np.int64), return_counts=True)
        self._waiting.append(Lengths(length, count.astype(np.int64)))
        self._held += len(length)
        if self._held > max(_WAITING, len(self._merged.length)):
            self.lengths()

    def lengths(self) -> Lengths:
        """All that were added so far."""
        parts = [self._merged, *self._waiting]
        length, place = np.unique(np.concatenate([part.length for part in parts]), return_inverse=True)
        count = np.zeros(len(length), np.int64)
        np.add.at(count, place, np.concatenate([part.count for part in parts]))
        self._merged, self._waiting, self._held = Lengths(length, count), [], 0
        return self._merged
