"""Decode attention as an operator of torch.

Legend: as in ``decode``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from tersely.kernels.backend import runs_triton
from tersely.kernels.decode import reference
from tersely.kernels.operator import operator
from tersely.kernels.rows import power_of_two

PART = 512
"""Keys that one program reads: 64 queries of 8 key heads and 1,000 keys are then 1,024 programs."""
BLOCK = 64


@operator("decode_attention")
def attend(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor, length: Tensor, longest: int, scale: float, window: int, softcap: float,
    sink: Tensor | None, backend: str,
) -> Tensor:  # fmt: skip
    """See ``decode_attention``."""
    if not runs_triton(backend, q):
        return reference.attend(q, k, v, start, length, scale, window, softcap, sink)
    kernels: Any = import_module("tersely.kernels.decode.triton_decode")
    (N, H, D), KH = q.shape, k.shape[1]
    q, k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k, v))
    out = q.new_empty(q.shape)
    parts = max(1, -(-longest // PART))
    part_out = torch.empty(N, KH, parts, H // KH, D, dtype=torch.float32, device=q.device)
    part_sum, part_max = torch.empty(2, N, KH, parts, H // KH, dtype=torch.float32, device=q.device)
    if not N:
        return out
    width = max(16, power_of_two(D))
    sizes: dict[str, Any] = dict(KH=KH, G=H // KH, D=D, WIDTH=width)
    kernels.attend_parts[(N * KH, parts)](
        q, k, v, start, length, part_out, part_sum, part_max, scale, softcap, window, parts,
        q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(0), v.stride(1),
        **sizes, ROWS=max(16, power_of_two(H // KH)), BLOCK=BLOCK, PART=PART, CAPPED=softcap > 0,
        EXACT=q.dtype == torch.float32, num_warps=4,
    )  # fmt: skip
    kernels.add_parts[(N * H,)](
        part_out, part_sum, part_max, part_max if sink is None else sink.float(), out, parts,
        **sizes, SINK=sink is not None, num_warps=1,
    )  # fmt: skip
    return out


@attend.register_fake
def _(q: Tensor, *_: Any) -> Tensor:
    return q.new_empty(q.shape)
