"""The plain twin of decode attention: one cache after another.

Legend: ``N`` queries, ``C`` places of the storage, ``H`` query heads, ``KH`` key heads, ``D`` head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tersely.kernels.attention.one import attend_one


def attend(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor, length: Tensor, scale: float, window: int, softcap: float,
    sink: Tensor | None,
) -> Tensor:  # fmt: skip
    """``(N, H, D)``; see ``decode_attention``. Reads the lengths back from the device."""
    out = torch.zeros_like(q, memory_format=torch.contiguous_format)
    for number, (first, count) in enumerate(zip(start.tolist(), length.tolist(), strict=True)):
        if count:
            own = slice(first, first + count)
            out[number] = attend_one(
                q[number, None], k[own], v[own],
                causal=True, scale=scale, window=window, softcap=softcap, sink=sink,
            )[0]  # fmt: skip
    return out
