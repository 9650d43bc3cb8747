"""WordPool: the bytes of each word to a few vectors.

Legend: ``T`` bytes, ``W`` words, ``p`` vectors of each, ``D`` the model's width, ``C`` the local width.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor, nn

from tersely.embeddings.words.mlp import GatedMlp
from tersely.embeddings.words.prefix import PrefixPool
from tersely.embeddings.words.table import TablePool
from tersely.errors import UsageError, choose
from tersely.layers import heads_of


class PoolKind(StrEnum):
    """What a word's vectors are made by."""

    PREFIX = "prefix"
    """Learned tokens before its bytes, through a small transformer that reads both ways inside the word."""
    QUERY = "query"
    """Learned queries that attend to its bytes (Byte2Word)."""
    MEAN = "mean"
    """The mean of its bytes' vectors."""
    MAX = "max"
    """Their maximum in each channel."""
    FIRST = "first"
    """The vector of its first byte."""


class WordPool(nn.Module):
    """Bytes of words to ``(W, p, D)``, nothing padded, nothing read back from the device.

    All is done at a local width, and only the words reach the model's. Words do not influence each other, so equal words
    have equal vectors.

    Args:
        width: ``D``.
        slots: ``p``.
        kind: see ``PoolKind``.
        local_width: ``C``, by default a quarter of the width.
        layers: of the transformer of ``"prefix"``.
        heads: of its attention, and of the queries; by default as many as have 64 channels or more.
        places: bytes of a word whose places are told apart, but for ``"prefix"``, which has rotary positions.

    Raises:
        UsageError: there is no such kind, a number is not positive, or heads and local width do not fit.
    """

    def __init__(
        self,
        width: int,
        slots: int = 1,
        kind: PoolKind | str = PoolKind.QUERY,
        *,
        local_width: int | None = None,
        layers: int = 2,
        heads: int | None = None,
        places: int = 32,
    ) -> None:
        super().__init__()
        kind, local = choose(PoolKind, kind), local_width or width // 4
        heads = heads or heads_of(local)
        sizes = {"width": width, "slots": slots, "local_width": local, "layers": layers, "places": places}
        for name, number in sizes.items():
            if number < 1:
                raise UsageError(f"{name} is {number}: a word pool needs at least 1")
        self.pool = (
            PrefixPool(slots, local, layers, heads)
            if kind is PoolKind.PREFIX
            else TablePool(kind, slots, local, heads, places)
        )
        self.mlp = GatedMlp(local)
        self.norm = nn.RMSNorm(local, eps=1e-6)
        self.project = nn.Linear(local, width, bias=False)

    def forward(self, input_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """The vectors of words.

        Args:
            input_ids: ``(T,)``, integers from 0 to 255.
            cu_seqlens: ``(W + 1,)``, int32 or int64, ends at ``T``: where words begin.

        Returns:
            ``(W, p, D)``; a word without bytes has vectors too, the same ones always.
        """
        pooled = self.pool(input_ids.long(), cu_seqlens)
        return self.project(self.norm(self.mlp(pooled)))
