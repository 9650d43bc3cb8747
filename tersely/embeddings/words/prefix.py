"""PrefixPool: learned tokens in front of each word's bytes, through layers that read both ways inside the word.

Thawani et al. 2023 ("Learn Your Tokens", arXiv 2310.11628), section 3, but with right masks and no padding. Two words, p = 2:

    rows    1 2 t h e   1 2 c a t s        the prefixes 1 and 2 see the bytes of their word, and these see them
            ^ ^         ^ ^                what they come out as is the word

The last layer computes these rows only, which is what makes few layers over many bytes cheap.

Legend: ``T`` bytes, ``W`` words, ``p`` prefixes of each, ``C`` local width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tersely.kernels import Boundaries
from tersely.kernels.segment import positions_of_tokens, segments_of_tokens
from tersely.layers import Stack


class PrefixPool(nn.Module):
    """Bytes of words to ``(W, p, C)``.

    Args:
        slots: ``p``.
        width: ``C``.
        layers: of the local transformer.
        heads: of its attention.
    """

    def __init__(self, slots: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.slots = slots
        self.embedding = nn.Embedding(256 + slots, width)
        self.stack = Stack(width, layers, heads)

    def forward(self, input_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Bytes ``(T,)`` and boundaries of words ``(W + 1,)`` to ``(W, p, C)``."""
        tokens, words, p = len(input_ids), len(cu_seqlens) - 1, self.slots
        numbers = torch.arange(words + 1, device=input_ids.device) * p
        cu_rows = cu_seqlens + numbers
        prefixes = (cu_rows[:-1, None] + torch.arange(p, device=input_ids.device)).flatten()
        ids = input_ids.new_empty(tokens + words * p)
        ids[torch.arange(tokens, device=ids.device) + p * (segments_of_tokens(cu_seqlens, tokens) + 1)] = (
            input_ids
        )
        ids[prefixes] = 256 + torch.arange(p, device=ids.device).repeat(words)
        rows = len(ids)
        places = positions_of_tokens(cu_rows, rows)
        bounds = Boundaries.from_cu_seqlens(cu_rows, rows)
        reading = Boundaries.from_cu_seqlens(numbers, words * p, cu_rows, rows)
        out = self.stack.read(self.embedding(ids), bounds, places, prefixes, reading)
        return out.unflatten(0, (words, p))
