"""A planner for streams: bounded memory, and a state that resumes exactly.

Documents wait in a window. When the window is full it is planned as a whole by best-fit decreasing; the fuller half
of the bins is given out, and the documents of the other half wait for better company. Only lengths are held, so the
state is small; the caller keeps the tokens of the documents that wait.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tersely.errors import PackError, UsageError, choose
from tersely.pack.pieces import Overflow
from tersely.pack.plan import checked_lengths, plan


class StreamPlanner:
    """Packs an endless stream of documents into bins.

    Args:
        capacity: tokens that a bin holds.
        window: pieces that may wait; memory is about 100 bytes for each. The default loses less than 1 % of
            efficiency against planning the whole corpus at once where a bin holds up to some hundred documents.
        overflow: what happens to a document longer than a bin.

    ``lost_tokens`` counts what overflow truncated or dropped. A window sees only its own part of the stream, so input
    that is sorted by length packs worse: shuffle it.

    A bin is a list of pieces ``(document, start, stop)``; documents are numbered from 0 in the order they came.

        planner = StreamPlanner(8192)
        for lengths in batches:
            for pieces in planner.add(lengths): ...
        for pieces in planner.flush(): ...
    """

    def __init__(self, capacity: int, window: int = 8192, overflow: Overflow | str = Overflow.SPLIT) -> None:
        if window < 2:
            raise UsageError(f"window {window}: at least 2 pieces must be able to wait")
        plan([], capacity)  # refuses what it cannot do
        self.capacity = capacity
        self.window = window
        self.overflow = choose(Overflow, overflow)
        self.lost_tokens = 0
        self._documents = 0
        self._tokens_given = 0
        self._bins_given = 0
        self._waiting: list[tuple[int, int, int]] = []

    @property
    def efficiency(self) -> float:
        """Share of the places in the bins given out so far that hold a token (1 for no bins)."""
        return self._tokens_given / (self._bins_given * self.capacity) if self._bins_given else 1.0

    def waiting(self) -> set[int]:
        """The documents of which a piece still waits: their tokens are still needed."""
        return {document for document, _, _ in self._waiting}

    def add(self, lengths: Any) -> list[list[tuple[int, int, int]]]:
        """Takes the next documents, in tokens; returns the bins that are ready, often none.

        Which bins come out depends on the sequence of lengths only, not on how it is cut into calls.
        """
        ready: list[list[tuple[int, int, int]]] = []
        for length in checked_lengths(lengths).tolist():
            self._waiting.extend(self._cut(self._documents, length))
            self._documents += 1
            while len(self._waiting) >= self.window:
                ready.extend(self._give(everything=False))
        return ready

    def flush(self) -> list[list[tuple[int, int, int]]]:
        """The bins of all documents that still wait; the stream may go on after it."""
        return self._give(everything=True)

    def state_dict(self) -> dict[str, Any]:
        """All that decides what comes next, JSON-able."""
        return {
            "capacity": self.capacity,
            "window": self.window,
            "overflow": str(self.overflow),
            "documents": self._documents,
            "lost_tokens": self.lost_tokens,
            "tokens_given": self._tokens_given,
            "bins_given": self._bins_given,
            "waiting": [list(piece) for piece in self._waiting],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the planner that gave ``state`` stood; raises PackError if it had other settings."""
        for name in ("capacity", "window", "overflow"):
            if state[name] != getattr(self, name):
                raise PackError(
                    f"the state was saved with {name}={state[name]}, but this planner has {getattr(self, name)}: "
                    "make it with the same settings"
                )
        self._documents = state["documents"]
        self.lost_tokens = state["lost_tokens"]
        self._tokens_given = state["tokens_given"]
        self._bins_given = state["bins_given"]
        self._waiting = [(document, start, stop) for document, start, stop in state["waiting"]]

    def _cut(self, document: int, length: int) -> list[tuple[int, int, int]]:
        if length > self.capacity and self.overflow is not Overflow.SPLIT:
            kept = self.capacity if self.overflow is Overflow.TRUNCATE else 0
            self.lost_tokens += length - kept
            length = kept
        return [
            (document, start, min(start + self.capacity, length)) for start in range(0, length, self.capacity)
        ]

    def _give(self, everything: bool) -> list[list[tuple[int, int, int]]]:
        if not self._waiting:
            return []
        lengths = np.array([stop - start for _, start, stop in self._waiting], np.int32)
        bins = plan(lengths, self.capacity).bins
        filled = np.add.reduceat(lengths[bins.values].astype(np.int64), bins.offsets[:-1])
        fullest_first = np.argsort(-filled, kind="stable")
        given = fullest_first if everything else fullest_first[: (len(bins) + 1) // 2]
        chosen = [[self._waiting[piece] for piece in bins[int(row)]] for row in given]
        left = np.ones(len(self._waiting), np.bool_)
        left[bins.take(given).values] = False
        self._waiting = [piece for piece, stays in zip(self._waiting, left.tolist(), strict=True) if stays]
        self._bins_given += len(given)
        self._tokens_given += int(filled[given].sum())
        return chosen
