"""Attention of one document by torch's own, for what runs document after document: CPUs, fp32, and twins.

Legend: ``Tq``, ``Tk`` tokens of queries and keys, ``H`` query heads, ``KH`` key heads, ``D`` head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attend_one(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float, window: int, softcap: float, sink: Tensor | None
) -> Tensor:  # fmt: skip
    """``(Tq, H, D)`` from queries ``(Tq, H, D)``, keys and values ``(Tk, KH, D)``, the last query at the last key.

    Args:
        q: queries.
        k: keys.
        v: values.
        causal: no key after its query.
        scale: factor of the products.
        window: keys to the left that a query sees, and to the right where not causal; -1 for all.
        softcap: bound of the scores, 0 for none.
        sink: ``(H,)``, one more logit in each row's denominator.
    """
    queries, keys = q.shape[0], k.shape[0]
    if causal and window >= 0 and keys > window + queries:
        k, v = k[keys - queries - window :], v[keys - queries - window :]
        keys = k.shape[0]
    square = causal and queries == keys and not 0 <= window < queries - 1
    capped = softcap or sink is not None
    seen = None if square and not capped else _seen(queries, keys, causal, window, q.device)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    if capped:
        return _capped(q, k, v, seen, scale, softcap, sink)[0].transpose(0, 1)
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, seen, is_causal=square, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out[0].transpose(0, 1)


def _seen(queries: int, keys: int, causal: bool, window: int, device: torch.device) -> Tensor | None:
    """Which keys each query sees, or None for all."""
    if (queries == 1 and causal) or (not causal and window < 0):
        return None
    own = torch.arange(keys - queries, keys, device=device)[:, None]
    key = torch.arange(keys, device=device)
    seen = key <= own if causal else key <= own + window
    return seen & (key >= own - window) if window >= 0 else seen


def _capped(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, scale: float, softcap: float, sink: Tensor | None
) -> Tensor:  # fmt: skip
    """Attention with a soft-cap of its scores or sinks, which torch's does not have."""
    group = q.shape[1] // k.shape[1]
    x = (q @ k.repeat_interleave(group, 1).transpose(2, 3)).float() * scale
    x = softcap * torch.tanh(x / softcap) if softcap else x
    x = x if seen is None else x.masked_fill(~seen, float("-inf"))
    if sink is not None:
        x = torch.cat([x, sink.float()[None, :, None, None].expand(*x.shape[:3], 1)], -1)
    return x.softmax(-1)[..., : k.shape[2]].to(v.dtype) @ v.repeat_interleave(group, 1)
