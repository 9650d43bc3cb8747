"""The plain twins of cross-entropy: row by row, in float32 (float64 for itself).

Legend: ``T`` rows, ``V`` the vocabulary.
"""

from __future__ import annotations

import torch

from tersely.kernels.segment.reference import accumulator

NO_LABEL = -100
"""The label of rows without a loss, as in torch and transformers."""


def rows(logits: torch.Tensor, labels: torch.Tensor, softcap: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and the log-sum-exp of each row ``(T,)``; zeros for rows without a label, NaN for labels that are none."""
    wide = _capped(logits, softcap)
    real = labels != NO_LABEL
    norms = torch.where(real, torch.logsumexp(wide, 1), 0)
    known = (labels >= 0) & (labels < logits.shape[1])
    own = wide.gather(1, torch.where(known, labels, 0)[:, None])[:, 0].masked_fill(~known, torch.nan)
    return torch.where(real, norms - own, 0), norms


def gradients(
    grad: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, norms: torch.Tensor, softcap: float
) -> torch.Tensor:
    """The gradient of the logits ``(T, V)`` for gradients ``(T,)`` of the losses; zeros in rows without a label."""
    wide = _capped(logits, softcap)
    shares = torch.exp(wide - norms[:, None])
    here = torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
    slope = (shares - here.to(shares.dtype)) * grad[:, None]
    if softcap:
        slope = slope * (1 - (wide / softcap) ** 2)
    return torch.where((labels != NO_LABEL)[:, None], slope, 0).to(logits.dtype)


def _capped(logits: torch.Tensor, softcap: float) -> torch.Tensor:
    wide = logits.to(accumulator(logits))
    return softcap * torch.tanh(wide / softcap) if softcap else wide
