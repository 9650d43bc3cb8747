"""Which word a byte is in, and where: read off the boundaries, on the device, without a wait.

Legend: ``T`` bytes, ``W`` words.
"""

from __future__ import annotations

import torch
from torch import Tensor


def words_of_bytes(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """The word of each of ``T`` bytes, int64 ``(T,)``; boundaries ``(W + 1,)`` end at ``T``."""
    numbers = torch.arange(len(cu_seqlens) - 1, device=cu_seqlens.device)
    return torch.repeat_interleave(numbers, cu_seqlens.diff(), output_size=tokens)


def places_in_words(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """The place of each byte in its word, from 0, int64 ``(T,)``."""
    starts = cu_seqlens[:-1].long()[words_of_bytes(cu_seqlens, tokens)]
    return torch.arange(tokens, device=cu_seqlens.device) - starts
