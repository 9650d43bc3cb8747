"""RatioLoss: pulls a learned policy to a share of kept positions (H-Net, arXiv 2507.07955, section 2.3).

With ``F`` the share of positions kept, ``G`` the mean probability and ``N = 1 / share``,

    loss = N / (N - 1) * ((N - 1) F G + (1 - F)(1 - G)),

which is 1 where ``F = G = 1 / N``. ``F`` is counted and has no gradient: it says how hard to pull ``G``.

Legend: ``T`` packed positions.
"""

from __future__ import annotations

from torch import Tensor, nn

from tersely.compress.merge.policies.protocol import Choice
from tersely.compress.merge.rate.mean import mean_of
from tersely.errors import UsageError


class RatioLoss(nn.Module):
    """A ``RateControl`` that leaves the choice as it is. It has no state.

    Args:
        share: of positions that should stay, above 0 and below 1.
        weight: factor of the loss.

    Raises:
        UsageError: the share is out of range, or, in a call, the policy gives no probabilities.
    """

    def __init__(self, share: float, weight: float = 0.03) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise UsageError(f"the ratio loss cannot aim for a share of {share}: give one between 0 and 1")
        self.share, self.weight = share, weight

    def forward(self, choice: Choice, cu_seqlens: Tensor) -> tuple[Choice, Tensor]:
        """See ``RateControl``."""
        if choice.probability is None:
            raise UsageError("the ratio loss needs a policy with probabilities: use the router")
        kept, mean = mean_of(choice.keep, cu_seqlens), mean_of(choice.probability.float(), cu_seqlens)
        n = 1 / self.share
        return choice, self.weight * n / (n - 1) * ((n - 1) * kept * mean + (1 - kept) * (1 - mean))
