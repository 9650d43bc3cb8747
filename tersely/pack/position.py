"""Where a reader of packed rows stands, and how that is written down.

Rows are counted in the order of the epoch: all ranks and workers together have it from the first row to the last. What
has been rearranged on the way there (see order.py) is part of the position, since it decides which rows come next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tersely.errors import PackError, UsageError
from tersely.pack.balance import Balance


@dataclass(frozen=True)
class BalancedFrom:
    """From position ``base`` on, rows are in balanced steps for ``world_size`` ranks."""

    base: int
    world_size: int
    balance: Balance


@dataclass(frozen=True)
class GivenFrom:
    """From position ``base`` on, the rows at these ranges of positions come first: they have been given already."""

    base: int
    given: tuple[tuple[int, int], ...]


Level: TypeAlias = BalancedFrom | GivenFrom


@dataclass(frozen=True)
class Position:
    """Where a reader stands: ``base`` rows of the epoch are behind all ranks together, and after them ``done`` rows
    behind this ``worker`` of ``workers``; ``levels`` are the rearrangements of the epoch's order, the first one below.
    """

    epoch: int
    base: int = 0
    worker: int = 0
    workers: int = 1
    done: int = 0
    levels: tuple[Level, ...] = ()

    def next_row(self, rank: int, world_size: int, ahead: Any = 0) -> Any:
        """Where in the epoch's order the row is that the reader gets after ``ahead`` more (an int, or a vector); this
        may be behind the end.
        """
        return self.base + ((self.done + ahead) * self.workers + self.worker) * world_size + rank

    def after(self, rows: int, world_size: int) -> Position:
        """Where the reader stands that has given ``rows`` more."""
        if self.workers == 1:
            return replace(self, base=self.base + (self.done + rows) * world_size, done=0)
        return replace(self, done=self.done + rows)

    def to_json(self) -> dict[str, Any]:
        """As what JSON can hold."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return numbers | {"levels": [_level_to_json(level) for level in self.levels]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Position:
        """Reads what ``to_json`` gave, among other things; raises PackError if it cannot be a position."""
        if missing := {*_NUMBERS, "levels"} - set(content):
            raise PackError(
                f"the loader state lacks {', '.join(sorted(missing))}: it is not one of PackedDataset"
            )
        try:
            levels = tuple(_level_from_json(level) for level in content["levels"])
            position = cls(**{name: int(content[name]) for name in _NUMBERS}, levels=levels)
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise PackError(
                f"the loader state is damaged: {error!r}; go on from an older checkpoint"
            ) from error
        if (
            min(position.epoch, position.base, position.done) < 0
            or not 0 <= position.worker < position.workers
        ):
            raise PackError("the loader state is damaged: it stands before the first row, or in no worker")
        return position


_NUMBERS = ("epoch", "base", "worker", "workers", "done")


def _level_to_json(level: Level) -> dict[str, Any]:
    if isinstance(level, GivenFrom):
        return {"base": level.base, "given": [list(span) for span in level.given]}
    return {
        "base": level.base,
        "world_size": level.world_size,
        "hidden_size": level.balance.hidden_size,
        "window": level.balance.window,
    }


def _level_from_json(content: Mapping[str, Any]) -> Level:
    base = int(content["base"])
    if "given" in content:
        spans = tuple((int(start), int(stop)) for start, stop in content["given"])
        ends = [base, *(end for span in spans for end in span)]
        if not spans or ends != sorted(ends):
            raise ValueError("ranges are not in order")
        return GivenFrom(base, spans)
    world_size = int(content["world_size"])
    if world_size < 1:
        raise ValueError(f"{world_size} ranks")
    return BalancedFrom(base, world_size, Balance(int(content["hidden_size"]), int(content["window"])))
