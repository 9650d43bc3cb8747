"""Groups: packed positions cut into groups, each from one kept position to the next.

    positions    a b c d e | f g            keep 1 0 1 0 0 | 1 1
    groups       [a b] [c d e] [f] [g]      starts 0 2 5 6 7     source 0 2 5 6     cu_seqlens 0 2 4

Legend: ``T`` packed positions, ``K`` groups, ``N`` documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tersely.kernels import compact
from tersely.kernels.segment import positions_of_tokens


@dataclass(frozen=True, eq=False)
class Groups:
    """What is merged with what. A document that is not empty has a group at its first position.

    Attributes:
        keep: bool, ``(T,)``: where groups begin.
        starts: ``(K + 1,)``: boundaries of the groups among the positions.
        source: int64, ``(K,)``: the position each group begins at.
        cu_seqlens: ``(N + 1,)``: boundaries of the documents among the groups.
        positions: int64, ``(K,)``: the place of each group in its document.
    """

    keep: Tensor
    starts: Tensor
    source: Tensor
    cu_seqlens: Tensor
    positions: Tensor

    @staticmethod
    def of(keep: Tensor, cu_seqlens: Tensor) -> Groups:
        """The groups that begin at these positions, and at the first of each document. Waits once, for their number.

        Args:
            keep: bool, ``(T,)``.
            cu_seqlens: ``(N + 1,)``, int32 or int64; rows past the last document are slack.
        """
        keep = keep | (positions_of_tokens(cu_seqlens, len(keep)) == 0)
        source, inner, _ = compact(torch.arange(len(keep), device=keep.device), keep, cu_seqlens)
        starts = torch.cat([source.to(cu_seqlens.dtype), cu_seqlens[-1:]])
        return Groups(keep, starts, source, inner, positions_of_tokens(inner, len(source)))
