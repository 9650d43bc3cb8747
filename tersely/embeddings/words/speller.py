"""Speller: the symbols of a word from what the model makes of the words before it.

    row's slots   symbols of the word         one causal sequence for each row, all of them packed and in parallel
    h1 h2         t  h  e
       t          h  e  .                     what each position but the first slots is to say

After Thawani et al. 2023 ("Learn Your Tokens", arXiv 2310.11628), section 3, whose decoder pads words to the longest.

Legend: ``R`` rows, ``p`` slots of each, ``D`` width of the model, ``C`` of the speller, ``S`` symbols, ``V`` kinds of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tersely.kernels import Boundaries
from tersely.kernels.segment import positions_of_tokens, segments_of_tokens
from tersely.layers import Stack, StackCache


class Speller(nn.Module):
    """A small causal transformer inside each word.

    Args:
        width: ``D``.
        slots: ``p``.
        symbols: ``V``, with the end of a word and that of a document, which are the last two.
        local_width: ``C``.
        layers: of the transformer.
        heads: of its attention.
    """

    def __init__(
        self, width: int, slots: int, symbols: int, local_width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.end_of_word, self.slots = symbols - 2, slots
        self.project = nn.Linear(width, local_width, bias=False)
        self.embedding = nn.Embedding(symbols - 2, local_width)
        self.stack = Stack(local_width, layers, heads)
        self.head = nn.Linear(local_width, symbols, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights around the stack, which has its own."""
        for weight in (self.project.weight, self.embedding.weight, self.head.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, slots: Tensor, symbols: Tensor, cu_symbols: Tensor) -> Tensor:
        """Logits of every symbol of every spelling, given those before it.

        Args:
            slots: ``(R, p, D)``.
            symbols: ``(S,)``, int64.
            cu_symbols: ``(R + 1,)``, int64, at least one symbol in each row.

        Returns:
            ``(S, V)``.
        """
        x, places, bounds, said = self._sequences(slots, symbols, cu_symbols)
        hidden = self.stack(x, bounds, places)
        return self.head(hidden if self.slots == 1 else hidden.index_select(0, said))

    def begin(self, slots: Tensor, capacity: int) -> tuple[Tensor, StackCache]:
        """Logits ``(R, V)`` of the first symbols after slots ``(R, p, D)``, and the cache to go on with."""
        rows, p = slots.shape[:2]
        cu_seqlens = torch.arange(rows + 1, device=slots.device) * p
        cache = self.stack.cache(rows, capacity)
        cache.begin(cu_seqlens, p)
        bounds = Boundaries.from_cu_seqlens(cu_seqlens, rows * p, causal=True)
        places = torch.arange(p, device=slots.device).repeat(rows)
        hidden = self.stack(self.project(slots).flatten(0, 1), bounds, places, cache)
        return self.head(hidden.view(rows, p, -1)[:, -1]), cache

    def step(self, symbols: Tensor, cache: StackCache, rows: Tensor) -> Tensor:
        """Logits ``(n, V)`` after one more symbol ``(n,)`` for each of these rows ``(n,)`` of a cache."""
        return self.head(self.stack.step(self.embedding(symbols), cache, rows))

    def _sequences(
        self, slots: Tensor, symbols: Tensor, cu_symbols: Tensor
    ) -> tuple[Tensor, Tensor, Boundaries, Tensor]:
        """Inputs, their places, who sees whom, and the position that says each symbol, ``(S,)``."""
        rows, p, device = len(slots), self.slots, symbols.device
        tokens = len(symbols) + rows * (p - 1)
        cu_seqlens = cu_symbols + torch.arange(rows + 1, device=device) * (p - 1)
        said = torch.arange(len(symbols), device=device) + (p - 1) * (
            segments_of_tokens(cu_symbols, len(symbols)) + 1
        )
        # A symbol is read in the position behind the one that says it. Behind an end the next row begins, whose slots
        # are written over it.
        index = symbols.new_empty(tokens + 1)
        index[said + 1] = symbols
        slot = torch.arange(p, device=device)
        index[(cu_seqlens[:-1, None] + slot).flatten()] = len(self.embedding.weight) + torch.arange(
            rows * p, device=device
        )
        known = torch.cat([self.embedding.weight, self.project(slots).flatten(0, 1)])
        places = positions_of_tokens(cu_seqlens, tokens)
        bounds = Boundaries.from_cu_seqlens(cu_seqlens, tokens, causal=True)
        return nn.functional.embedding(index[:-1], known), places, bounds, said
