"""match_similar: which positions of an encoder are alike enough to become one (ToMe, arXiv 2210.09461, section 3).

Inside each document positions are dealt to two sides in turn. Each of side A finds its best match in side B by the cosine
of their keys, and those of A that match best are merged into their matches. The first position stands apart: it is
where models put what they say of the whole document.

    position    0   1 2 3 4 5 6        A 1 3 5    B 2 4 6
    best match      2   2   6          of these the two best: 1 -> 2, 5 -> 6
    merged      0   12 3 4 56          member 0 1 1 2 3 4 4

Legend: ``T`` packed positions, ``K`` of them after merging, ``N`` documents, ``C`` channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tersely.compress.merge.policies.exact import exact_rate
from tersely.compress.merge.policies.protocol import Choice
from tersely.errors import UsageError
from tersely.kernels import segment_reduce
from tersely.kernels.segment import positions_of_tokens, segments_of_tokens, slack_rows

_TILE = 256
"""Positions of side A at once: few enough that their documents have not many more keys than they may match."""


@dataclass(frozen=True, eq=False)
class Matching:
    """Where positions went.

    Attributes:
        member: int64, ``(T,)``: the merged position each went to; ``K`` in slack rows.
        cu_seqlens: ``(N + 1,)``: boundaries of the documents after merging.
        order: int64, ``(T,)``: positions, those of one merged position side by side.
        starts: ``(K + 1,)``: boundaries of the merged positions in that order.
    """

    member: Tensor
    cu_seqlens: Tensor
    order: Tensor
    starts: Tensor

    def merge(self, values: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Means weighted by sizes, ``(K, C)``, and the sums of the sizes, float32 ``(K,)``.

        Args:
            values: ``(T, C)``.
            sizes: ``(T,)``: how many positions each has taken in already, 1 at first.
        """
        sizes = sizes[self.order]
        merged = segment_reduce(values[self.order], self.starts, "softmax", sizes.log())
        return merged, segment_reduce(sizes, self.starts, "sum")

    def unmerge(self, values: Tensor) -> Tensor:
        """Values ``(K, C)`` to each position that was merged, ``(T, C)``; zeros in slack rows."""
        return torch.cat([values, values.new_zeros(1, *values.shape[1:])])[self.member]


def match_similar(keys: Tensor, cu_seqlens: Tensor, rate: float) -> Matching:
    """Finds what to merge. Waits for the device: for the boundaries, and for ``K``.

    Args:
        keys: ``(T, C)``: what is compared, by their cosine: the keys of a layer, averaged over its heads.
        cu_seqlens: ``(N + 1,)``, int32 or int64; rows past the last document are slack.
        rate: of each document's positions that go: of ``L`` positions ``floor(rate * L)``, or all of side A, half of
            the document, if that is less. At least 0, below 1.

    Raises:
        UsageError: the rate is out of range.
    """
    if not 0 <= rate < 1:
        raise UsageError(f"a rate of {rate} cannot be merged away: give one of at least 0 and below 1")
    positions = positions_of_tokens(cu_seqlens, len(keys))
    lengths = torch.cat([cu_seqlens.diff(), cu_seqlens.new_zeros(1)])
    alone = lengths[segments_of_tokens(cu_seqlens, len(keys))] < 3
    first_side = (positions % 2 == 1) & ~alone
    best, likeness = _best_matches(keys, positions, first_side, cu_seqlens)
    score = torch.where(first_side, -likeness, torch.inf)
    keep = exact_rate(Choice(first_side, score), cu_seqlens, 1 - rate).keep | (~first_side & (positions >= 0))
    return _matching(torch.where(keep, torch.arange(len(keys), device=keys.device), best), keep, cu_seqlens)


def _best_matches(
    keys: Tensor, positions: Tensor, first_side: Tensor, cu_seqlens: Tensor
) -> tuple[Tensor, Tensor]:
    """For each position of side A the row of side B most like it, the first of several, and its cosine; ``(T,)``."""
    directions = torch.nn.functional.normalize(keys.detach().float(), dim=-1)
    documents = segments_of_tokens(cu_seqlens, len(keys))
    a = first_side.nonzero()[:, 0]
    b = ((positions > 0) & (positions % 2 == 0)).nonzero()[:, 0]
    best, likeness = torch.zeros_like(positions), directions.new_zeros(len(keys))
    owners, firsts = documents[b].contiguous(), documents[a[::_TILE]]
    lasts = torch.cat([documents[a[_TILE - 1 :: _TILE]], documents[a[-1:]]])[: len(firsts)]
    starts, stops = torch.searchsorted(owners, torch.stack([firsts, lasts + 1])).tolist()
    for rows, start, stop in zip(a.split(_TILE), starts, stops, strict=False):
        near = b[start:stop]
        cosine = directions[rows] @ directions[near].T
        cosine = cosine.masked_fill(documents[rows][:, None] != documents[near][None], -torch.inf)
        top, place = cosine.max(1)
        best[rows], likeness[rows] = near[place], top
    return best, likeness


def _matching(into: Tensor, keep: Tensor, cu_seqlens: Tensor) -> Matching:
    """The maps, from the row ``(T,)`` that each position goes to and the rows that stay."""
    before = torch.cat([keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)])
    member = torch.where(slack_rows(cu_seqlens, len(keep)), before[-1], before[into])
    order = member.argsort(stable=True)
    merged = torch.arange(int(before[-1]) + 1, device=keep.device)
    starts = torch.searchsorted(member[order].contiguous(), merged)
    return Matching(member, before[cu_seqlens.long()].to(cu_seqlens.dtype), order, starts)
