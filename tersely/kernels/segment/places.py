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
    starts = torch.cat([cu_seqlens, cu_seqlens[-1:]]).long()[segments_of_tokens(cu_seqlens, tokens)]
    places = torch.arange(tokens, device=cu_seqlens.device) - starts
    return places.masked_fill(slack_rows(cu_seqlens, tokens), -1)


def slack_rows(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """Which rows lie past the last segment, bool ``(T,)``."""
    return torch.arange(tokens, device=cu_seqlens.device) >= cu_seqlens[-1]
