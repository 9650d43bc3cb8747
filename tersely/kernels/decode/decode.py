"""decode_attention: one query of each sequence over its own cache, none of them padded.

Legend: ``N`` sequences, ``C`` places of the storage, ``H`` query heads, ``KH`` key heads, ``D`` head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tersely.errors import KernelError
from tersely.kernels.backend import Backend
from tersely.kernels.decode.operators import attend


def decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    start: Tensor,
    length: Tensor,
    *,
    longest: int,
    scale: float | None = None,
    window: int = -1,
    softcap: float = 0.0,
    sink: Tensor | None = None,
    backend: Backend | str = "auto",
) -> Tensor:
    """Attention of each sequence's newest token, which stands at the last key of its cache. For inference: no gradient.

    Args:
        q: ``(N, H, D)``, fp32, fp16 or bf16.
        k: ``(C, KH, D)``, the caches of all sequences in one storage; places between them are not read.
        v: ``(C, KH, D)``.
        start: ``(N,)``, int32 or int64: where each cache begins.
        length: ``(N,)``, the same: its keys, that of the query included. A sequence without any gives 0.
        longest: the largest length, or more, on the host: how many programs are started.
        scale: factor of the products, by default ``1 / sqrt(D)``.
        window: keys before its own that a query sees; -1 for all.
        softcap: bounds scores to ``softcap * tanh(score / softcap)``; 0 for none.
        sink: ``(H,)``, one more logit in each denominator.
        backend: "auto", "reference" or "triton".

    Returns:
        ``(N, H, D)``.

    Raises:
        KernelError: shapes, dtypes or devices do not fit.
    """
    if q.dim() != 3 or k.dim() != 3 or k.shape != v.shape or q.shape[2] != k.shape[2] or k.shape[1] == 0:
        raise KernelError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} must be (sequences, heads, head dimension) and "
            "(places, key heads, head dimension)"
        )
    if q.shape[1] % k.shape[1]:
        raise KernelError(f"{q.shape[1]} query heads are no multiple of {k.shape[1]} key heads")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise KernelError(f"q, k and v must have one floating dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
    if start.shape != q.shape[:1] or length.shape != q.shape[:1]:
        raise KernelError(
            f"start {tuple(start.shape)} and length {tuple(length.shape)} must have one number for each of {q.shape[0]} "
            "sequences"
        )
    if torch.is_floating_point(start) or torch.is_floating_point(length):
        raise KernelError(f"start and length must be integers, not {start.dtype} and {length.dtype}")
    if len({x.device for x in (q, k, v, start, length)}) > 1:
        raise KernelError("q, k, v, start and length are on several devices: move them to one")
    scale = q.shape[2] ** -0.5 if scale is None else scale
    return attend(q, k, v, start, length, longest, scale, window, softcap, sink, str(backend))
