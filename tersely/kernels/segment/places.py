"""Which segment a packed token is in, and where in it: read off the boundaries, on the device, never waiting for it.

    cu_seqlens 0 2 5, 6 tokens    segments 0 0 1 1 1 2    positions 0 1 0 1 2 -1

Legend: ``T`` packed tokens, ``N`` segments.
"""

from __future__ import annotations

import torch
from torch import Tensor


def segments_of_tokens(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """The segment of each token, int64 ``(T,)``; ``N`` for slack rows."""
    places = torch.arange(tokens, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    return torch.searchsorted(cu_seqlens[1:].contiguous(), places, right=True)


def positions_of_tokens(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """The place of each token in its segment, int64 ``(T,)``, from 0; -1 in slack rows."""
    ends = torch.cat([cu_seqlens, cu_seqlens[-1:]]).long()
    places = torch.arange(tokens, device=cu_seqlens.device)
    return torch.where(places < ends[-1], places - ends[segments_of_tokens(cu_seqlens, tokens)], -1)
