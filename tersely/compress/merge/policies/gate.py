"""DeleteGate: a learned score for each position says what goes (MrT5, arXiv 2410.20771, section 3).

    G = k * sigmoid(-(w . norm(h) + b))        between k (deleted) and 0 (kept); k = -30

In training ``G`` is added to the scores of its position wherever it is a key, which has a gradient; a position with ``G``
below ``k / 2`` is deleted where deletion is hard.

Legend: ``T`` packed positions, ``C`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import initialization

from tersely.compress.merge.policies.protocol import Choice
from tersely.kernels.segment import slack_rows


class DeleteGate(nn.Module):
    """A ``BoundaryPolicy`` that is learned: score and gate are ``G``. It reads its own position only.

    The norm is that of the models it stands in (root mean square, no mean taken off). It begins by keeping: with ``b = 1``
    ``G`` is about a quarter of ``k``.

    Args:
        width: ``C``.
        scale: ``k``, negative.
        noisy: in training, add Gumbel noise to ``w . norm(h) + b``, so that positions near the threshold fall to both sides.
    """

    causal, reach = True, 0

    def __init__(self, width: int, scale: float = -30.0, noisy: bool = False) -> None:
        super().__init__()
        self.scale, self.noisy = scale, noisy
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.weight = nn.Parameter(torch.empty(1, width))
        self.bias = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As the paper begins; what transformers has loaded already stays."""
        initialization.xavier_uniform_(self.weight)
        initialization.ones_(self.bias)

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, input_ids: Tensor, position_ids: Tensor | None = None
    ) -> Choice:
        """See ``BoundaryPolicy``; ``G`` is float32, or wider if ``hidden`` is."""
        scale = self.norm.weight.to(hidden.dtype)  # T5's states are float32 in a model of float16
        normed = nn.functional.rms_norm(hidden, scale.shape, scale, self.norm.eps).to(self.weight.dtype)
        logit = nn.functional.linear(normed, self.weight, self.bias).squeeze(-1)
        logit = logit.to(torch.promote_types(logit.dtype, torch.float32))
        if self.noisy and self.training:
            uniform = torch.rand_like(logit).clamp(min=torch.finfo(logit.dtype).tiny)
            logit = logit - torch.log(-torch.log(uniform))
        gate = self.scale * torch.sigmoid(-logit)
        keep = (gate > self.scale / 2) & ~slack_rows(cu_seqlens, len(gate))
        return Choice(keep, gate, gate, torch.sigmoid(logit))
