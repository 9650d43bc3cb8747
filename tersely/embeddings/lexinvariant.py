"""Lexinvariant embeddings: symbols that mean nothing but what their document makes of them (Huang et al. 2023, arXiv 2305.16349).

In each document every symbol has a vector drawn anew from N(0, I/d), the same wherever it stands in the document; logits
are products with the same vectors. Which vector is whose cannot matter, so they are dealt in the order in which the
symbols of a document first appear:

    document 5    a  b  r  a  c         ranks   0  1  2  0  3          vector 2 of document 5 is r's

For a model that is as good as drawing them by symbol, since the vectors are drawn alike and independently of each other and
of the text. But now the loss is not only invariant in distribution when symbols are renamed: it is the same number.

A vector is a hash of (seed, document, rank, channel), so there is no table of all documents, and any of them can be asked
for again. The hash is of integers, the same everywhere; the floats made of it may differ in the last bit between devices.

Legend: ``T`` packed tokens, ``N`` documents, ``d`` width, ``V`` symbols.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tersely.errors import UsageError
from tersely.kernels.segment import segments_of_tokens


class Lexinvariant(nn.Module):
    """Vectors of packed documents, without parameters.

    Args:
        vocab_size: ``V``, above all ids; no document has more symbols.
        width: ``d``.
        seed: of all vectors; 64 bits of it count.

    Raises:
        UsageError: a size is not positive.
    """

    def __init__(self, vocab_size: int, width: int, seed: int = 0) -> None:
        super().__init__()
        if min(vocab_size, width) < 1:
            raise UsageError(f"vocab_size is {vocab_size} and width {width}: both must be 1 or more")
        self.vocab_size, self.width, self.seed = vocab_size, width, seed

    def forward(self, input_ids: Tensor, cu_seqlens: Tensor, documents: Tensor | None = None) -> Tensor:
        """The vectors of tokens.

        Args:
            input_ids: ``(T,)``, integers.
            cu_seqlens: ``(N + 1,)``, int32 or int64, ends at ``T``.
            documents: ``(N,)``, int64, numbers that say whose vectors; by default 0 to ``N - 1``. In training give new ones
                in each step, or the model may learn what the vectors are.

        Returns:
            ``(T, d)``, float32.
        """
        ranks = self.ranks(input_ids, cu_seqlens)
        numbers = self._numbers(cu_seqlens, documents)
        return self._vectors(numbers[segments_of_tokens(cu_seqlens, len(ranks))], ranks)

    def ranks(self, input_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """How many symbols of its document were new before the token's own was, int64 ``(T,)``: the labels of ``logits``."""
        tokens, device = len(input_ids), input_ids.device
        documents = segments_of_tokens(cu_seqlens, tokens)
        keys, order = (documents * self.vocab_size + input_ids.long()).sort(stable=True)
        begins = torch.ones(tokens, dtype=torch.bool, device=device)
        begins[1:] = keys[1:] != keys[:-1]
        # The sort is stable, so each group of equal symbols begins with the first one of the document.
        groups = begins.cumsum(0) - 1
        first_of_group = torch.zeros_like(order).scatter_reduce(0, groups, order, "amin", include_self=False)
        first = torch.empty_like(order).scatter(0, order, first_of_group[groups])
        new = first == torch.arange(tokens, device=device)
        before = torch.nn.functional.pad(new.cumsum(0), (1, 0))
        return before[first] - before[cu_seqlens.long()][documents]

    def logits(self, hidden: Tensor, cu_seqlens: Tensor, documents: Tensor | None = None) -> Tensor:
        """Products with the vectors of each document. Waits for the device, for the lengths of documents.

        Args:
            hidden: ``(T, d)``.
            cu_seqlens: ``(N + 1,)``.
            documents: as in ``forward``.

        Returns:
            ``(T, V)``: a column for each rank, so labels are ranks; a symbol that is new has the smallest unused one.
        """
        every = torch.arange(self.vocab_size, device=hidden.device)
        parts = []
        lengths: list[int] = cu_seqlens.diff().tolist()
        numbers = self._numbers(cu_seqlens, documents)
        for number, part in zip(numbers, hidden.split(lengths), strict=True):
            parts.append(part @ self._vectors(number, every).to(part.dtype).T)
        return torch.cat(parts) if parts else hidden.new_zeros(0, self.vocab_size)

    def _numbers(self, cu_seqlens: Tensor, documents: Tensor | None) -> Tensor:
        if documents is None:
            return torch.arange(len(cu_seqlens) - 1, device=cu_seqlens.device)
        if documents.shape != (len(cu_seqlens) - 1,):
            raise UsageError(
                f"documents has shape {tuple(documents.shape)}: give one number for each of {len(cu_seqlens) - 1}"
            )
        return documents.long()

    def _vectors(self, documents: Tensor, ranks: Tensor) -> Tensor:
        """Vectors ``(n, d)`` of ranks ``(n,)`` in documents ``(n,)``, or one document."""
        seed = (self.seed + 2**63) % 2**64 - 2**63
        start = _mixed(torch.full_like(ranks, seed) ^ _mixed(documents + 1)) + ranks
        pairs = torch.arange(math.ceil(self.width / 2), device=ranks.device)
        bits = _mixed(_mixed(start)[:, None] + pairs)
        one, other = (bits >> 40) & 0xFFFFFF, (bits >> 8) & 0xFFFFFF
        # Box and Muller 1958: two uniform numbers, the first not 0, to two normal ones.
        radius = (((one + 1).float() / 2**24).log() * -2 / self.width).sqrt()
        angle = other.float() * (2 * math.pi / 2**24)
        return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, : self.width]


def _mixed(x: Tensor) -> Tensor:
    """The bits of int64 mixed, one to one (the finalizer of SplitMix64, Steele et al. 2014)."""
    x = x + (0x9E3779B97F4A7C15 - 2**64)
    x = (x ^ ((x >> 30) & (2**34 - 1))) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ ((x >> 27) & (2**37 - 1))) * (0x94D049BB133111EB - 2**64)
    return x ^ ((x >> 31) & (2**33 - 1))
