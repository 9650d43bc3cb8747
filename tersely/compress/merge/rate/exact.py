"""ExactRate: the best of each document, as many as the rate says."""

from __future__ import annotations

from torch import Tensor, nn

from tersely.compress.merge.policies.exact import as_fraction, exact_rate
from tersely.compress.merge.policies.protocol import Choice


class ExactRate(nn.Module):
    """``exact_rate`` as a ``RateControl``, for encoders. Adds nothing to the loss.

    Args:
        share: of positions that stay. UsageError unless above 0 and at most 1.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = float(as_fraction(share))

    def forward(self, choice: Choice, cu_seqlens: Tensor) -> tuple[Choice, Tensor]:
        """See ``RateControl``."""
        return exact_rate(choice, cu_seqlens, self.share), choice.score.new_zeros(())
