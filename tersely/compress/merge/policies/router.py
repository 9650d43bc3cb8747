"""RouterPolicy: a boundary where neighbours differ, learned (H-Net, arXiv 2507.07955, section 2.2).

    p[t] = (1 - cos(Wq h[t - 1], Wk h[t])) / 2,    p = 1 at a document's start,    a boundary where p > 1/2

Legend: ``T`` packed positions, ``C`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tersely.compress.merge.policies.protocol import Choice
from tersely.kernels.segment import positions_of_tokens


class RouterPolicy(nn.Module):
    """The cosine router. Causal; its exact form is not. Decides in float32, also under autocast.

    Args:
        width: ``C``.
    """

    causal, reach = True, 1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Both projections begin as the identity: the cosine of the states themselves."""
        nn.init.eye_(self.query.weight)
        nn.init.eye_(self.key.weight)

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, input_ids: Tensor, position_ids: Tensor | None = None
    ) -> Choice:
        """See ``BoundaryPolicy``; the score is the probability."""
        at = positions_of_tokens(cu_seqlens, len(input_ids)) if position_ids is None else position_ids
        with torch.autocast(hidden.device.type, enabled=False):
            wide = hidden if hidden.dtype == torch.float64 else hidden.float()
            query = wide.roll(1, 0) @ self.query.weight.to(wide.dtype).T
            key = wide @ self.key.weight.to(wide.dtype).T
            cosine = nn.functional.cosine_similarity(query, key, dim=-1)
            probability = ((1 - cosine) / 2).clamp(0, 1).masked_fill(at <= 0, 1)
        return Choice((at >= 0) & (probability > 0.5), probability, probability=probability)
