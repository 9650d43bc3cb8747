"""StridePolicy: every k-th position, the plainest control; exact for any share.

share 1/3    1 0 0 1 0 0 1        share 2/5    1 0 1 0 0 1 0 1 0 0

Legend: ``T`` packed positions.
"""

from __future__ import annotations

from torch import Tensor, nn

from tersely.compress.merge.policies.exact import as_fraction, kept_of
from tersely.compress.merge.policies.protocol import Choice
from tersely.kernels.segment import positions_of_tokens


class StridePolicy(nn.Module):
    """Keeps positions as evenly as they can be: of the first ``n`` always ``ceil(share * n)``. Its own exact form, and causal.

    Args:
        share: of positions that stay; 1 / k for every k-th. UsageError unless above 0 and at most 1.
    """

    causal, reach = True, 0

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = as_fraction(share)

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, input_ids: Tensor, position_ids: Tensor | None = None
    ) -> Choice:
        """See ``BoundaryPolicy``."""
        at = positions_of_tokens(cu_seqlens, len(input_ids)) if position_ids is None else position_ids
        keep = (at >= 0) & (kept_of(at + 1, self.share) > kept_of(at, self.share))
        return Choice(keep, keep.float())
