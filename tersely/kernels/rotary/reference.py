"""The plain twin of rotary embedding.

Legend: ``T`` packed tokens, ``N`` segments, ``H`` heads, ``D`` head dimension, ``R`` rotated dimensions, ``P`` positions.
"""

from __future__ import annotations

import torch

from tersely.kernels.segment.places import segments_of_tokens
from tersely.kernels.segment.reference import accumulator


def positions_of(
    tokens: int, cu_seqlens: torch.Tensor | None, position_ids: torch.Tensor | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """The position of each token in its document ``(T,)``, and which tokens are no slack rows."""
    places = torch.arange(tokens, device=device)
    real = torch.ones(tokens, dtype=torch.bool, device=device)
    if cu_seqlens is not None:
        bounds = cu_seqlens.long()
        real = places < bounds[-1]
        if position_ids is None:
            places = places - bounds[segments_of_tokens(bounds, tokens)]
    return (places if position_ids is None else position_ids.long()), real


def rotate(
    values: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    real: torch.Tensor,
    interleaved: bool,
    inverse: bool,
) -> torch.Tensor:
    """Values ``(T, H, D)`` with their first R dimensions rotated by tables ``(P, R / 2)``; zeros in slack rows.

    A position outside the tables gives NaN.
    """
    wide, half = accumulator(values), cos.shape[1]
    known = (positions >= 0) & (positions < len(cos))
    rows = torch.where(known, positions, 0)
    table = cos.new_zeros(1, half) if len(cos) == 0 else None
    c, s = (
        (part if table is None else table)[rows].to(wide).masked_fill(~known[:, None], torch.nan)[:, None]
        for part in (cos, sin)
    )
    s = -s if inverse else s
    turned, kept = values[..., : 2 * half].to(wide), values[..., 2 * half :]
    if interleaved:
        first, second = turned[..., ::2], turned[..., 1::2]
    else:
        first, second = turned[..., :half], turned[..., half:]
    pair = (first * c - second * s, second * c + first * s)
    turned = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    out = torch.cat([turned.to(values.dtype), kept], -1)
    return torch.where(real[:, None, None], out, 0)
