"""What other capacities and strategies would make of the same documents: rows, empty places, documents cut, attention.

Rows are counted by the planner itself. What is cut, and how long the pieces are, follows from the lengths alone: all
strategies but ``concat`` cut only documents longer than a row, and ``concat`` wherever a row ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tersely.errors import choose
from tersely.pack import Overflow, Strategy, plan
from tersely.shards import Packing

CAPACITIES = tuple(1 << power for power in range(9, 18))
"""512 to 131072."""

STRATEGIES = (Strategy.BEST_FIT, Strategy.NEXT_FIT, Strategy.CONCAT)
"""Tried at every capacity. ``mix`` needs exactly the rows of best-fit, so its figures are those; ``first-fit`` needs about as
many, and is tried where the folder has it.
"""

_LEAST_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a capacity and a strategy give.

    Attributes:
        capacity: tokens that a row holds.
        strategy: how documents are put into rows.
        present: whether it is what the folder has.
        rows: rows for all documents of the folder.
        padding: empty places, as a share of all places in these rows, 0 to 1.
        cut: documents that do not stand whole in one row, as a share of all, 0 to 1.
        lost: tokens that are truncated or dropped, as a share of all, 0 to 1.
        attention: pairs of tokens within a document, as a share of those that attention over whole rows computes, 0 to 1:
            what attention costs where documents in a row are kept apart, next to where they are not.
        context: tokens before a token in its own piece of a document, on average.
    """

    capacity: int
    strategy: Strategy
    present: bool
    rows: int
    padding: float
    cut: float
    lost: float
    attention: float
    context: float


class Pieces(NamedTuple):
    """Sums over the pieces that a capacity makes of documents: documents cut, tokens kept, squares of piece lengths."""

    cut: int
    kept: int
    squares: float


def choices(
    lengths: np.ndarray[Any, Any],
    tokens: int,
    packing: Packing,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Choice]:
    """The choices for documents of these lengths, in the order of the corpus; they stand for all its ``tokens``.

    Capacities are those of ``CAPACITIES`` that make at least 16 rows, and the folder's own. Documents longer than a row are
    treated as the folder treats them.
    """
    planned = int(lengths.sum())
    if not planned:
        return []
    wanted = list(_wanted(tokens, packing))
    found: list[Choice] = []
    for done, (capacity, strategy) in enumerate(wanted):
        found.append(_choice(lengths, capacity, strategy, packing, tokens / planned))
        on_progress(done + 1, len(wanted))
    return found


def _wanted(tokens: int, packing: Packing) -> Iterator[tuple[int, Strategy]]:
    own = {packing.capacity} if packing.capacity else set[int]()
    enough = {capacity for capacity in CAPACITIES if capacity * _LEAST_ROWS <= tokens}
    for capacity in sorted((enough or {CAPACITIES[0]}) | own):
        yield from ((capacity, strategy) for strategy in STRATEGIES)
        if capacity in own and packing.strategy == Strategy.FIRST_FIT:
            yield capacity, Strategy.FIRST_FIT


def _choice(
    lengths: np.ndarray[Any, Any], capacity: int, strategy: Strategy, packing: Packing, scale: float
) -> Choice:
    overflow = choose(Overflow, packing.overflow)
    if strategy is Strategy.CONCAT:
        pieces = chopped(lengths, capacity)
        rows = -(-pieces.kept // capacity)
    else:
        pieces = cut(lengths, capacity, overflow)
        rows = len(plan(lengths, capacity, strategy, overflow).bins)
    places = max(rows * capacity, 1)
    packed_as = Strategy.BEST_FIT if packing.strategy == Strategy.MIX else packing.strategy
    return Choice(
        capacity=capacity,
        strategy=strategy,
        present=capacity == packing.capacity and strategy == packed_as,
        rows=round(rows * scale),
        padding=1 - pieces.kept / places if rows else 0.0,
        cut=pieces.cut / len(lengths),
        lost=1 - pieces.kept / int(lengths.sum()),
        attention=pieces.squares / (places * capacity),
        context=(pieces.squares / pieces.kept - 1) / 2 if pieces.kept else 0.0,
    )


def cut(lengths: np.ndarray[Any, Any], capacity: int, overflow: Overflow) -> Pieces:
    """What cutting only the documents longer than ``capacity`` makes of them."""
    long = lengths > capacity
    short = lengths[~long]
    kept, squares = int(short.sum()), _squares(short)
    if overflow is Overflow.SPLIT:
        whole, rest = np.divmod(lengths[long], capacity)
        kept += int(lengths[long].sum())
        squares += float(whole.sum()) * capacity**2 + _squares(rest)
    elif overflow is Overflow.TRUNCATE:
        kept += int(long.sum()) * capacity
        squares += float(long.sum()) * capacity**2
    return Pieces(int(long.sum()), kept, squares)


def chopped(lengths: np.ndarray[Any, Any], capacity: int) -> Pieces:
    """What concatenating the documents and chopping them every ``capacity`` tokens makes of them."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    first_row, last_row = starts // capacity, (ends - 1) // capacity
    apart = (last_row > first_row) & (lengths > 0)
    head = (first_row + 1)[apart] * capacity - starts[apart]
    tail = ends[apart] - last_row[apart] * capacity
    between = float((last_row - first_row - 1)[apart].sum())
    squares = _squares(lengths[~apart]) + _squares(head) + _squares(tail) + between * capacity**2
    return Pieces(int(apart.sum()), int(lengths.sum()), squares)


def _squares(lengths: np.ndarray[Any, Any]) -> float:
    return float(np.square(lengths, dtype=np.float64).sum())
