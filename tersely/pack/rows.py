"""The rows of a plan as ranges of the stored shards: all that a reader needs, in flat arrays that processes can share.

row 0: 3 ranges        shard   4    4    9         offsets 0 3 ...
start   0  810   77         a row's ranges are offsets[row]:offsets[row + 1]
length 90   10  412         a range that is joined goes on with the piece before it,
joined  0    1    0         so the row has two pieces, of 100 and 412 tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tersely.pack.pieces import Pieces
from tersely.pack.plan import PackPlan
from tersely.shards import StoredPieces

ROWS_VERSION = 1
"""Another one where the table of the same plan is another."""

_AT_ONCE = 1 << 18
"""Pieces that are looked up at a time, which bounds the memory that building takes."""


@dataclass(frozen=True)
class RowTable:
    """Which ranges of which shards each row is made of; 13 bytes for a range and 20 for a row.

    Attributes:
        offsets: ``offsets[row]:offsets[row + 1]`` are the ranges of a row, ``(rows + 1,)``, int64.
        shard: the shard of each range, ``(ranges,)``, int32.
        start: its first token's place among the ids of the shard, ``(ranges,)``, int32.
        length: its tokens, ``(ranges,)``, int32.
        joined: 1 where it goes on with the piece of the range before it, ``(ranges,)``, uint8.
        tokens: of each row, ``(rows,)``, int32.
        squares: the sum of its pieces' squared lengths, ``(rows,)``, int64.
        plan: the fingerprint of the plan, ``(32,)``, uint8.
    """

    offsets: np.ndarray[Any, Any]
    shard: np.ndarray[Any, Any]
    start: np.ndarray[Any, Any]
    length: np.ndarray[Any, Any]
    joined: np.ndarray[Any, Any]
    tokens: np.ndarray[Any, Any]
    squares: np.ndarray[Any, Any]
    plan: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def fingerprint(self) -> str:
        """That of the plan, 64 hexadecimal digits."""
        return self.plan.tobytes().hex()

    def ranges(self, row: int) -> Iterator[tuple[int, int, int]]:
        """Shard, first token and length of each range of a row."""
        here = slice(self.offsets[row], self.offsets[row + 1])
        return zip(
            self.shard[here].tolist(), self.start[here].tolist(), self.length[here].tolist(), strict=True
        )

    def seq_lengths(self, row: int) -> np.ndarray[Any, Any]:
        """Tokens of each piece of a row, int32."""
        here = slice(self.offsets[row], self.offsets[row + 1])
        length, joined = self.length[here], self.joined[here]
        return (
            np.add.reduceat(length, np.flatnonzero(joined == 0), dtype=np.int32)
            if joined.any()
            else length.copy()
        )

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def build_rows(plan: PackPlan, stored: StoredPieces) -> RowTable:
    """The table of a plan over the documents of ``stored``, in their order.

    Costs about a quarter of a second for a million pieces; ``reference.ranges_of`` says the same slowly.
    """
    chosen = plan.bins.values
    ends = np.cumsum(stored.length, dtype=np.int64)
    parts = [
        _ranges(plan.pieces, chosen[at : at + _AT_ONCE], stored, ends)
        for at in range(0, len(chosen), _AT_ONCE)
    ]
    empty = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.uint8))
    shard, start, length, joined = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    first_range = np.append(np.flatnonzero(joined == 0), len(joined))
    pieces = plan.seq_lengths.values.astype(np.int64)
    return RowTable(
        offsets=first_range[plan.bins.offsets],
        shard=shard,
        start=start,
        length=length,
        joined=joined,
        tokens=_sums(pieces, plan.bins.offsets).astype(np.int32),
        squares=_sums(pieces * pieces, plan.bins.offsets),
        plan=np.frombuffer(bytes.fromhex(plan.fingerprint), np.uint8),
    )


def _sums(values: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of each row; no row of a plan is empty."""
    return np.add.reduceat(values, offsets[:-1]) if len(offsets) > 1 else np.empty(0, np.int64)


def _ranges(
    pieces: Pieces, chosen: np.ndarray[Any, Any], stored: StoredPieces, ends: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], ...]:
    """Shard, start, length and joined of the ranges that hold the ``chosen`` pieces of the plan.

    Stored pieces follow on from each other, so places in a document are places in all documents one after another,
    of which stored piece ``i`` ends at ``ends[i]``.
    """
    document, start, stop = (column[chosen] for column in pieces)
    first, last = stored.first[document], stored.first[document + 1] - 1
    origin = ends[first] - stored.length[first]
    low, high = origin + start, origin + stop
    several = np.flatnonzero(first < last)
    first[several] = np.searchsorted(ends, low[several], "right")
    last[several] = np.searchsorted(ends, high[several], "left")
    counts = last - first + 1
    opens = np.cumsum(counts) - counts
    piece = np.repeat(first - opens, counts) + np.arange(int(counts.sum()))
    begins = ends[piece] - stored.length[piece]
    low, high = np.maximum(begins, np.repeat(low, counts)), np.minimum(ends[piece], np.repeat(high, counts))
    joined = np.ones(len(piece), np.uint8)
    joined[opens] = 0
    starts = (stored.offset[piece] + (low - begins)).astype(np.int32)
    return stored.shard[piece], starts, (high - low).astype(np.int32), joined
