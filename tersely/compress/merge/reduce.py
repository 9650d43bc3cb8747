"""GroupReduce: one vector for each group, of all of it or of what a decoder may know when the group begins.

A decoder needs a group's vector as soon as the group begins, since all of its positions are to profit from it. Its
first position is known then; a mean is not, so the vector is that of the group before, and a learned one where there is
none (the shift of Dynamic Token Pooling, arXiv 2211.09761).

    groups      [a b] [c d e] [f]
    whole        ab    cde     f
    causal       a     c       f          keep
    causal       start ab      cde        mean, max, attention

Legend: ``T`` packed positions, ``K`` groups, ``C`` width.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor, nn

from tersely.compress.merge.groups import Groups
from tersely.errors import choose
from tersely.kernels import compact, segment_reduce


class Reduction(StrEnum):
    """What of a group is its vector."""

    KEEP = "keep"
    """Its first position."""
    MEAN = "mean"
    MAX = "max"
    ATTENTION = "attention"
    """The mean weighted by the softmax, inside the group, of a learned score."""


class GroupReduce(nn.Module):
    """``(T, C)`` to ``(K, C)``.

    Args:
        reduce: see ``Reduction``.
        width: ``C``.
    """

    def __init__(self, reduce: Reduction | str, width: int) -> None:
        super().__init__()
        self.reduce = choose(Reduction, reduce)
        self.score = nn.Linear(width, 1, bias=False) if self.reduce is Reduction.ATTENTION else None
        self.start = None if self.reduce is Reduction.KEEP else nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The score begins at 0, as a mean."""
        if self.score is not None:
            nn.init.zeros_(self.score.weight)
        if self.start is not None:
            nn.init.normal_(self.start, std=0.02)

    def forward(self, hidden: Tensor, groups: Groups) -> Tensor:
        """Each group's own vector, for encoders."""
        if self.reduce is Reduction.KEEP:
            return compact(
                hidden, groups.keep, torch.cat([groups.starts[:1], groups.starts[-1:]]), len(groups.source)
            ).values
        if self.score is None:
            return segment_reduce(hidden, groups.starts, str(self.reduce))
        return segment_reduce(hidden, groups.starts, "softmax", self.score(hidden)[:, 0])

    def causal(self, hidden: Tensor, groups: Groups) -> Tensor:
        """What is known of each group, or before it, at its first position."""
        whole = self(hidden, groups)
        if self.start is None:
            return whole
        before = torch.cat([whole[:1], whole[:-1]])
        return torch.where(groups.positions[:, None] > 0, before, self.start.to(whole.dtype))
