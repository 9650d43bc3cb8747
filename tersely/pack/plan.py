"""The plan: which pieces of which documents go into which bin, made from lengths alone.

    lengths 5 3 2, capacity 8   ->   pieces (document, start, stop): (0, 0, 5) (1, 0, 3) (2, 0, 2)
                                     bins: [0 1] [2]

A plan holds no tokens, so it is small, saved in milliseconds and as quickly made again for another capacity, seed or
number of ranks. ``gather`` turns token ids into the rows of a plan.
"""

from __future__ import annotations

import hashlib
import json
import operator
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tersely.errors import PackError, UsageError, choose
from tersely.gather import gather_rows
from tersely.pack.bestfit import best_fit_decreasing
from tersely.pack.inorder import first_fit_decreasing, next_fit
from tersely.pack.mixed import mix
from tersely.pack.pieces import Cut, Overflow, Pieces, chop, cut_lengths, cut_pieces
from tersely.ragged import Ragged

PLAN_VERSION = 1
_LARGEST_CAPACITY = 2**28
_LONGEST_DOCUMENT = 2**40


class Strategy(StrEnum):
    """How pieces are put into bins."""

    BEST_FIT = "best-fit"
    """Longest first, each into the fullest bin that holds it: fewest bins, tens of millions of documents a second."""
    FIRST_FIT = "first-fit"
    """Longest first, each into the first bin that holds it."""
    NEXT_FIT = "next-fit"
    """In the order of the corpus; a new bin where the next does not fit. Wastes 5 to 25 % of the tokens."""
    CONCAT = "concat"
    """Concatenate and chop: every bin but the last is full, and documents are cut wherever a bin ends."""
    MIX = "mix"
    """As few bins as best-fit, each composed as a shuffled corpus would compose it."""


class Waste(NamedTuple):
    """What a plan does not use or keep: empty places in bins, and the documents and tokens that overflow cost."""

    padding_tokens: int
    truncated_tokens: int
    dropped_documents: int
    dropped_tokens: int
    split_documents: int
    empty_documents: int


@dataclass(frozen=True, eq=False)
class PackPlan:
    """Bins over pieces of documents; made by ``plan``.

    Attributes:
        lengths: tokens of each document, shape ``(documents,)``.
        bins: a row for each bin, of piece numbers (indices into ``pieces``).
        capacity: tokens that a bin holds.
        strategy: how the bins were made.
        overflow: what was done with documents longer than a bin.
        seed: what the plan's random choices came from.
    """

    lengths: np.ndarray[Any, Any]
    bins: Ragged
    capacity: int
    strategy: Strategy
    overflow: Overflow
    seed: int

    @cached_property
    def pieces(self) -> Pieces:
        """The pieces, in document order: ``document``, ``start`` and ``stop``, int64, shape ``(pieces,)``."""
        if self.strategy is Strategy.CONCAT:
            return chop(self.lengths, self.capacity)[0]
        return cut_pieces(self.lengths, self.capacity, self.overflow, len(self.bins.values))

    @cached_property
    def documents(self) -> Ragged:
        """For each bin the documents whose pieces it holds, int64."""
        return Ragged(self.pieces.document[self.bins.values], self.bins.offsets)

    @cached_property
    def seq_lengths(self) -> Ragged:
        """For each bin the token counts of its pieces, int32: the inner boundaries of a packed row."""
        lengths = (self.pieces.stop - self.pieces.start).astype(np.int32)
        return Ragged(lengths[self.bins.values], self.bins.offsets)

    @property
    def tokens(self) -> int:
        """Tokens in all bins."""
        waste = self.waste
        return int(self.lengths.sum(dtype=np.int64)) - waste.truncated_tokens - waste.dropped_tokens

    @property
    def efficiency(self) -> float:
        """Share of the places in bins that hold a token, 0 to 1 (1 for no bins)."""
        places = len(self.bins) * self.capacity
        return 1 - self.waste.padding_tokens / places if places else 1.0

    @cached_property
    def waste(self) -> Waste:
        """What is padded, truncated, dropped and split, each counted."""
        if self.strategy is Strategy.CONCAT:
            tokens = int(self.lengths.sum(dtype=np.int64))
            pieces_of = np.bincount(self.pieces.document, minlength=len(self.lengths))
            cut = Cut(0, tokens, int((self.lengths == 0).sum()), int((pieces_of > 1).sum()), 0, 0, 0)
        else:
            cut = cut_lengths(self.lengths, self.capacity, self.overflow)[1]
        return Waste(
            padding_tokens=len(self.bins) * self.capacity - cut.tokens,
            truncated_tokens=cut.truncated_tokens,
            dropped_documents=cut.dropped_documents,
            dropped_tokens=cut.dropped_tokens,
            split_documents=cut.split_documents,
            empty_documents=cut.empty_documents,
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256, 64 hexadecimal digits, over the settings, the lengths and the bins."""
        digest = hashlib.sha256(json.dumps(self._settings(), sort_keys=True).encode())
        for array in (self.lengths, self.bins.values, self.bins.offsets):
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
        return digest.hexdigest()

    def gather(self, ids: Ragged) -> Ragged:
        """The packed rows: a row of tokens for each bin. ``ids`` has a row for each document, of its length.

        Costs one copy. Raises PackError if the documents are not those that were planned.
        """
        if not np.array_equal(ids.to_numpy().lengths, self.lengths):
            raise PackError(
                f"the plan was made for other documents: {len(self.lengths)} planned, {len(ids)} given"
            )
        ids = ids.to_numpy()
        pieces = self.pieces
        chosen = self.bins.values
        starts = (ids.offsets[:-1][pieces.document] + pieces.start)[chosen]
        ends = np.zeros(len(chosen) + 1, np.int64)
        np.cumsum((pieces.stop - pieces.start)[chosen], out=ends[1:])
        return Ragged(gather_rows(ids.values, starts, ends), ends[self.bins.offsets])

    def shuffled(self, seed: int) -> PackPlan:
        """The same bins in an order drawn from ``seed``: planners leave the longest documents in the first bins."""
        order = np.random.default_rng(seed).permutation(len(self.bins))
        return PackPlan(
            self.lengths, self.bins.take(order), self.capacity, self.strategy, self.overflow, self.seed
        )

    def save(self, path: str | Path) -> None:
        """Writes the plan as one ``.npz`` file (no pickle) that ``PackPlan.load`` reads."""
        settings = np.frombuffer(json.dumps(self._settings()).encode(), np.uint8)
        with Path(path).open("wb") as file:
            np.savez(
                file,
                settings=settings,
                lengths=self.lengths,
                bins=self.bins.values,
                offsets=self.bins.offsets,
            )

    @classmethod
    def load(cls, path: str | Path) -> PackPlan:
        """Reads what ``save`` wrote. Raises PackError if the file is not a plan of this version, or not a valid one."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                settings = json.loads(stored["settings"].tobytes())
                lengths, bins = checked_lengths(stored["lengths"]), Ragged(stored["bins"], stored["offsets"])
            if settings["version"] != PLAN_VERSION:
                raise PackError(f"it is of version {settings['version']}; this tersely reads {PLAN_VERSION}")
            strategy, overflow = Strategy(settings["strategy"]), Overflow(settings["overflow"])
            capacity, seed = operator.index(settings["capacity"]), operator.index(settings["seed"])
            made = cls(lengths, bins, capacity, strategy, overflow, seed)
            made._check()
        except (OSError, RuntimeError, MemoryError, zipfile.BadZipFile) as error:
            raise PackError(f"{path} cannot be read as a saved plan: {error}") from error
        except (EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise PackError(f"{path} is not a saved plan: {error}") from error
        return made

    def _check(self) -> None:
        """Raises PackError unless every piece is in one bin, and no bin holds more than its capacity."""
        if not 1 <= self.capacity <= _LARGEST_CAPACITY:
            raise PackError(f"its capacity is {self.capacity}")
        concat = self.strategy is Strategy.CONCAT
        pieces = (
            len(chop(self.lengths, self.capacity)[0].document)
            if concat
            else cut_lengths(self.lengths, self.capacity, self.overflow)[1].pieces
        )
        if self.bins.values.dtype.kind not in "iu" or not np.array_equal(
            np.sort(self.bins.values), np.arange(pieces)
        ):
            raise PackError(f"its bins do not hold each of its {pieces} pieces once")
        ends = np.concatenate([[0], np.cumsum(self.seq_lengths.values, dtype=np.int64)])[self.bins.offsets]
        if len(self.bins) and int(np.diff(ends).max()) > self.capacity:
            raise PackError("one of its bins holds more than its capacity")

    def _settings(self) -> dict[str, Any]:
        return {
            "version": PLAN_VERSION,
            "capacity": self.capacity,
            "strategy": str(self.strategy),
            "overflow": str(self.overflow),
            "seed": self.seed,
        }

    def __repr__(self) -> str:
        return (
            f"PackPlan({len(self.lengths)} documents in {len(self.bins)} bins of {self.capacity}, "
            f"{self.strategy}, efficiency {self.efficiency:.4f})"
        )


def plan(
    lengths: np.ndarray[Any, Any] | Sequence[int],
    capacity: int,
    strategy: Strategy | str = Strategy.BEST_FIT,
    overflow: Overflow | str = Overflow.SPLIT,
    seed: int = 0,
) -> PackPlan:
    """Plans which documents share a bin.

    Args:
        lengths: tokens of each document, shape ``(documents,)``, integers, 0 or more.
        capacity: tokens that a bin holds, 1 to 2**28.
        strategy: see ``Strategy``.
        overflow: what happens to a document longer than a bin, see ``Overflow`` (``concat`` always splits).
        seed: for ``mix``, what its choices are drawn from; 0 to 2**32 - 1.

    Raises:
        UsageError: the capacity, strategy, overflow or seed is none of the above, or a length is negative.
    """
    counts = checked_lengths(lengths)
    capacity, strategy, overflow, seed = checked_settings(capacity, strategy, overflow, seed)
    if strategy is Strategy.CONCAT:
        pieces, offsets = chop(counts, capacity)
        bins = Ragged(np.arange(len(pieces.document)), offsets)
        return PackPlan(counts, bins, capacity, strategy, Overflow.SPLIT, seed)
    piece_lengths, _ = cut_lengths(counts, capacity, overflow)
    if strategy is Strategy.BEST_FIT:
        packed, offsets = best_fit_decreasing(piece_lengths, capacity)
    elif strategy is Strategy.FIRST_FIT:
        packed, offsets = first_fit_decreasing(piece_lengths, capacity)
    elif strategy is Strategy.NEXT_FIT:
        packed, offsets = next_fit(piece_lengths, capacity)
    else:
        packed, offsets = mix(piece_lengths, capacity, seed)
    return PackPlan(counts, Ragged(packed, offsets), capacity, strategy, overflow, seed)


def checked_settings(
    capacity: int, strategy: Strategy | str, overflow: Overflow | str, seed: int
) -> tuple[int, Strategy, Overflow, int]:
    """The settings of a plan, if they are possible; raises UsageError otherwise."""
    capacity, seed = operator.index(capacity), operator.index(seed)
    if not 1 <= capacity <= _LARGEST_CAPACITY:
        raise UsageError(f"capacity {capacity} is outside 1..{_LARGEST_CAPACITY} tokens")
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed} is outside 0..2**32 - 1")
    return capacity, choose(Strategy, strategy), choose(Overflow, overflow), seed


def checked_lengths(lengths: np.ndarray[Any, Any] | Sequence[int]) -> np.ndarray[Any, Any]:
    """A read-only copy, int32 or int64, of lengths that are plausible token counts; raises UsageError otherwise."""
    counts = np.asarray(lengths)
    if counts.size == 0:
        counts = counts.astype(np.int64)
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise UsageError(f"lengths is a vector of integers, not {counts.dtype} of shape {counts.shape}")
    counts = counts.astype(
        np.int32 if counts.dtype == np.int32 else np.int64
    )  # a copy, which nobody else can change
    counts.flags.writeable = False
    if counts.size and int(counts.min()) < 0:
        raise UsageError(f"document {int(counts.argmin())} has the negative length {int(counts.min())}")
    if counts.size and int(counts.max()) > _LONGEST_DOCUMENT:
        raise UsageError(
            f"document {int(counts.argmax())} has {int(counts.max())} tokens, above {_LONGEST_DOCUMENT}"
        )
    return counts
