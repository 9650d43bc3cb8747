"""FixedPolicy: the beginning of each word, the second control of MrT5 (arXiv 2410.20771, section 4).

share 1/2    t h e _ q u i c k _        1 1 0 0 1 1 1 0 0 0

Legend: ``T`` packed positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tersely.compress.merge.policies.earlier import earlier
from tersely.compress.merge.policies.exact import as_fraction, kept_of
from tersely.compress.merge.policies.protocol import Choice
from tersely.kernels.segment import positions_of_tokens


class FixedPolicy(nn.Module):
    """Keeps the first ``ceil(share * length)`` of each stretch, which ends with a separator. Not causal: it counts the stretch.

    Its exact form takes the same part of all stretches, as far as whole positions allow.

    Args:
        share: of positions that stay. UsageError unless above 0 and at most 1.
        first_byte: the id of byte 0: 3 in ByT5.
        separators: the bytes that end a stretch.
    """

    causal, reach = False, 0

    def __init__(self, share: float, first_byte: int = 0, separators: bytes = b" \t\n\r") -> None:
        super().__init__()
        self.share = as_fraction(share)
        self.separators = [byte + first_byte for byte in separators]

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, input_ids: Tensor, position_ids: Tensor | None = None
    ) -> Choice:
        """See ``BoundaryPolicy``; a score is how much of its stretch stands before a position, negated."""
        at = positions_of_tokens(cu_seqlens, len(input_ids)) if position_ids is None else position_ids
        before = earlier(input_ids, at, 1, -1)
        begins = at <= 0
        for separator in self.separators:
            begins = begins | (before == separator)
        rows = torch.arange(len(at), device=at.device)
        inside = rows - torch.where(begins, rows, 0).cummax(0).values
        stretch = begins.cumsum(0) - 1
        length = torch.zeros_like(at).index_add_(0, stretch, torch.ones_like(at))[stretch]
        return Choice((at >= 0) & (inside < kept_of(length, self.share)), -inside / length)
