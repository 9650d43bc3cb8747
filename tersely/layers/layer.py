"""One layer of a transformer on packed values: attention and a gated MLP, each after a norm and added to the stream.

RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), SwiGLU (Shazeer 2020): as in the Llama models.

Legend: ``T`` packed tokens, ``C`` width, ``H`` heads, ``D = C / H``, ``N`` sequences.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values ``(T, H, D)``, before rotation, to what was seen, ``(T, H, D)``, or by some rows of it."""


class Layer(nn.Module):
    """Reads ``(T, C)`` and gives ``(T, C)``; who sees whom is for ``attend`` to know.

    Args:
        width: ``C``.
        heads: ``H``, a divisor of ``C``.
        hidden: channels inside the MLP.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, eps=1e-6)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None) -> Tensor:
        """``(T, C)`` to ``(T, C)``; or to ``(n, C)``, the ``rows`` ``(n,)`` whose queries ``attend`` takes."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(1, (3, self.heads, -1))
        x = x if rows is None else x.index_select(0, rows)
        x = x + self.out(attend(*qkv.unbind(1)).flatten(1))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(torch.nn.functional.silu(gate) * up)
