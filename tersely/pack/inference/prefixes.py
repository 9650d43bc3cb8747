"""Prompts that begin alike, laid out so that what they share stands in a row once.

Sorted by their ids, prompts that share a beginning are neighbours, and each brings only what the one before it does
not have. The keys that a prompt sees are then a few ranges of the row: its path.

    prompts    S S S a a        row    S S S a a b b b c
               S S S b b b             0 1 2 3 4 5 6 7 8
               S S S b c        paths  0:5 | 0:3 5:8 | 0:3 5:6 8:9

Equal prompts are one. Beginnings of fewer than ``SHORTEST`` tokens are computed again: reading them from another place
costs more than they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tersely.pack.inference.prompts import Ids

SHORTEST = 16

Span = tuple[int, int]


@dataclass(frozen=True)
class Branch:
    """What one prompt (and those equal to it) brings, and where the rest of it stands.

    Attributes:
        prompts: numbers of the prompts that end here.
        ids: all ids of the prompt.
        shared: how many of them stand in the branches before.
    """

    prompts: tuple[int, ...]
    ids: Ids
    shared: int

    @property
    def own(self) -> int:
        """Tokens that are computed for it."""
        return len(self.ids) - self.shared


def families(prompts: Sequence[Ids], share: bool = True) -> list[list[Branch]]:
    """Prompts that share a beginning, together: in each family branches in order, the first of which shares nothing.

    Args:
        prompts: ids of each.
        share: otherwise each is a family of its own.
    """
    if not share:
        return [[Branch((number,), ids, 0)] for number, ids in enumerate(prompts)]
    equal: dict[bytes, list[int]] = {}
    for number, ids in enumerate(prompts):
        equal.setdefault(ids.astype(">u8").tobytes(), []).append(number)
    found: list[list[Branch]] = []
    before: Ids | None = None
    path: list[int] = []  # where the branches of the path end, in tokens of the prompt
    for key in sorted(equal):
        numbers = tuple(equal[key])
        ids = prompts[numbers[0]]
        common = 0 if before is None else _common(before, ids)
        shared, path = _shared(path, common)
        branch = Branch(numbers, ids, shared)
        if shared:
            found[-1].append(branch)
        else:
            found.append([branch])
        path.append(len(ids))
        before = ids
    return found


def _shared(ends: list[int], common: int) -> tuple[int, list[int]]:
    """How much of ``common`` tokens to share with a path of branches, and what of the path is left then."""
    inside = [end for end in ends if end <= common]
    start = inside[-1] if inside else 0
    if len(inside) < len(ends) and common - start >= SHORTEST:
        return common, [*inside, common]
    return (start, inside) if start >= SHORTEST else (0, [])


def _common(a: Ids, b: Ids) -> int:
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length


def paths(branches: Sequence[Branch]) -> list[list[Span]]:
    """For each branch of a row the ranges of the row that hold its prompt's tokens, in order."""
    found: list[list[Span]] = []
    path: list[tuple[int, int, int]] = []  # tokens start:stop of the prompt stand from `row` on
    base = 0
    for branch in branches:
        path = [(a, min(b, branch.shared), row) for a, b, row in path if a < branch.shared]
        path.append((branch.shared, len(branch.ids), base))
        found.append([(row, row + b - a) for a, b, row in path if b > a])
        base += branch.own
    return found
