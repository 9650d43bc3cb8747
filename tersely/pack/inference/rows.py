"""Rows of a few thousand tokens, each run through the model at once: which prompts stand in which, and where.

The planner of training puts families of prompts into rows. A row is as long as what it holds, so no token is padding;
the budget is there for memory, and so that work on the device is not cut too small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from tersely.errors import PackError
from tersely.pack.inference.prefixes import Branch, Span, families, paths
from tersely.pack.inference.prompts import Ids
from tersely.pack.plan import plan

_KEYS_OF_BUDGET = 8
"""Keys that the branches of a family read between them, at most, as a multiple of the budget: they are gathered."""


@dataclass(frozen=True)
class Row:
    """Prompts that are computed together.

    Attributes:
        branches: what stands in it, one after another.
        first_position: the position of a prompt's first token.
    """

    branches: tuple[Branch, ...]
    first_position: int = 0

    @cached_property
    def paths(self) -> list[list[Span]]:
        """For each branch where the row holds its prompt's tokens."""
        return paths(self.branches)

    @cached_property
    def cu_seqlens(self) -> Ids:
        """Where branches begin, and the end, ``(branches + 1,)``."""
        return np.cumsum([0, *(branch.own for branch in self.branches)])

    @property
    def tokens(self) -> int:
        """Tokens of the row."""
        return int(self.cu_seqlens[-1])

    @property
    def shares(self) -> bool:
        """Whether some branch reads keys of others."""
        return any(branch.shared for branch in self.branches)

    def input_ids(self, device: torch.device) -> torch.Tensor:
        """``(1, T)``, int64."""
        ids = np.concatenate([branch.ids[branch.shared :] for branch in self.branches])
        return torch.from_numpy(ids).to(device)[None]

    def position_ids(self, device: torch.device) -> torch.Tensor:
        """``(1, T)``, int64: places in the prompts."""
        places = [np.arange(branch.shared, len(branch.ids)) for branch in self.branches]
        return torch.from_numpy(np.concatenate(places) + self.first_position).to(device)[None]

    @cached_property
    def last(self) -> Ids:
        """The place of each branch's last token, ``(branches,)``."""
        return np.array([path[-1][1] - 1 for path in self.paths])

    def places(self, branch: int) -> Ids:
        """The place of each token of a branch's prompt."""
        return np.concatenate([np.arange(*span) for span in self.paths[branch]])


def plan_rows(
    prompts: Sequence[Ids],
    token_budget: int,
    *,
    share: bool = True,
    first_position: int = 0,
    longest_together: int | None = None,
) -> list[Row]:
    """The rows that compute all prompts, those with most tokens first.

    Args:
        prompts: ids of each.
        token_budget: tokens of a row; a prompt that is longer has a row of its own.
        share: compute beginnings that prompts share once.
        first_position: the position of a prompt's first token.
        longest_together: longer prompts have a row of their own, too.

    Raises:
        PackError: the budget is below 1.
    """
    if token_budget < 1:
        raise PackError(f"token_budget is {token_budget}: give at least 1")
    together, alone = list[Ids](), list[tuple[Branch, ...]]()
    numbers = list[int]()
    for number, ids in enumerate(prompts):
        if longest_together is not None and len(ids) > longest_together:
            alone.append((Branch((number,), ids, 0),))
        else:
            numbers.append(number)
            together.append(ids)
    parts = list[tuple[Branch, ...]]()
    for family in families(together, share):
        named = [replace(b, prompts=tuple(numbers[i] for i in b.prompts)) for b in family]
        for part in _parts(named, token_budget):
            (alone if _tokens(part) > token_budget else parts).append(part)
    rows = [Row(part, first_position) for part in alone]
    if parts:
        bins = plan(np.array([_tokens(part) for part in parts]), token_budget).documents
        rows += [
            Row(tuple(branch for part in bins[i] for branch in parts[part]), first_position)
            for i in range(len(bins))
        ]
    return sorted(rows, key=lambda row: -row.tokens)


def _parts(family: Sequence[Branch], budget: int) -> Iterator[tuple[Branch, ...]]:
    """A family in parts of at most ``budget`` tokens; a part begins with a whole prompt."""
    part, keys = list[Branch](), 0
    for branch in family:
        full = part and (
            _tokens(part) + branch.own > budget or keys + len(branch.ids) > _KEYS_OF_BUDGET * budget
        )
        if full:
            yield tuple(part)
            part, keys = [], 0
        part.append(branch if part else replace(branch, shared=0))
        keys += len(branch.ids)
    yield tuple(part)


def _tokens(branches: Sequence[Branch]) -> int:
    return sum(branch.own for branch in branches)
