"""The gated MLP between what is not attention: around tables of bytes and behind pooled words (SwiGLU, Shazeer 2020)."""

from __future__ import annotations

from torch import Tensor, nn


class GatedMlp(nn.Module):
    """``(..., C)`` plus what a gated MLP makes of its norm.

    Args:
        width: ``C``; inside it are four times as many channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.gate_up = nn.Linear(width, 8 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` to ``(..., C)``."""
        gate, up = self.gate_up(self.norm(x)).chunk(2, dim=-1)
        return x + self.down(nn.functional.silu(gate) * up)
