"""Stack: the layers of a transformer on packed values, with a norm behind the last.

    training, prefill    x (T, C) of all documents    Boundaries say who sees whom
    generation           x (n, C), one new position for each of n sequences, over a StackCache

Legend: ``T`` packed tokens, ``C`` width, ``H`` heads, ``D = C / H``, ``N`` sequences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tersely.errors import UsageError
from tersely.kernels import Boundaries, rotary, varlen_attention
from tersely.layers.cache import StackCache
from tersely.layers.layer import Layer

_BASE = 10_000.0


def heads_of(width: int) -> int:
    """The most heads of 64 or more channels that a width can be cut into evenly: 12 for 768, 10 for 800, 1 if none."""
    return next((heads for heads in range(width // 64, 1, -1) if width % (2 * heads) == 0), 1)


class Stack(nn.Module):
    """Pre-norm transformer layers with rotary positions over ``(T, C)``.

    Args:
        width: ``C``.
        layers: how many; 0 gives the norm alone.
        heads: ``H``; ``C / H`` must be a whole, even number.
        hidden: channels inside the MLPs; by default 8/3 of the width, in steps of 64.

    Raises:
        UsageError: the heads do not divide the width evenly.
    """

    def __init__(self, width: int, layers: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        if heads < 1 or width % (2 * heads):
            raise UsageError(
                f"a width of {width} cannot be cut into {heads} heads of an even size: change one of them"
            )
        self.width, self.heads = width, heads
        hidden = hidden or math.ceil(width * 8 / 3 / 64) * 64
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights, smaller where they add to the stream (Radford et al. 2019, section 2.3)."""
        for name, part in self.named_parameters():
            if part.dim() == 2:
                adds = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(part, std=0.02 / math.sqrt(2 * len(self.layers)) if adds else 0.02)

    def forward(
        self, x: Tensor, bounds: Boundaries, position_ids: Tensor, cache: StackCache | None = None
    ) -> Tensor:
        """All positions of packed sequences at once.

        Args:
            x: ``(T, C)``.
            bounds: who sees whom.
            position_ids: ``(T,)``, integers: where each stands in its sequence; gaps are allowed.
            cache: begun for these sequences; takes their keys and values. Give none in training.

        Returns:
            ``(T, C)``.
        """
        cos, sin = self._angles(position_ids)
        x = self._stream(x)
        for number, layer in enumerate(self.layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, number: int = number) -> Tensor:
                q, k = rotary(q, k, cos, sin)
                if cache is not None:
                    cache.fill(number, k, v)
                return varlen_attention(q, k, v, bounds)

            x = layer(x, attend)
        return self.norm(x)

    def read(
        self, x: Tensor, bounds: Boundaries, position_ids: Tensor, rows: Tensor, rows_bounds: Boundaries
    ) -> Tensor:
        """Some rows of what ``forward`` gives; the last layer, which there must be, computes no others.

        Args:
            x: ``(T, C)``.
            bounds: who sees whom in all layers but the last.
            position_ids: ``(T,)``, integers.
            rows: int64, ``(n,)``.
            rows_bounds: which of all positions these rows see.

        Returns:
            ``(n, C)``.
        """
        cos, sin = self._angles(position_ids)
        x = self._stream(x)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return varlen_attention(*rotary(q, k, cos, sin), v, bounds)

        def attend_from_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k = rotary(q, k, cos, sin)
            return varlen_attention(q.index_select(0, rows), k, v, rows_bounds)

        for layer in self.layers[:-1]:
            x = layer(x, attend)
        for layer in self.layers[-1:]:
            x = layer(x, attend_from_rows, rows)
        return self.norm(x)

    def step(self, x: Tensor, cache: StackCache, rows: Tensor | None = None, window: int = -1) -> Tensor:
        """One more position for each sequence of a cache, or for some of them.

        Args:
            x: ``(n, C)``.
            cache: grows by the new keys and values.
            rows: int64, ``(n,)``, each once: the sequences that ``x`` belongs to; all, in order, by default.
            window: keys before its own that a position sees; -1 for all.

        Returns:
            ``(n, C)``.
        """
        rows = torch.arange(cache.sequences, device=x.device) if rows is None else rows
        cos, sin = self._angles(cache.open(rows))
        x = self._stream(x)
        for number, layer in enumerate(self.layers):

            def attend(q: Tensor, k: Tensor, v: Tensor, number: int = number) -> Tensor:
                q, k = rotary(q, k, cos, sin)
                return cache.attend(number, q, k, v, rows, window)

            x = layer(x, attend)
        return self.norm(x)

    def cache(self, sequences: int, capacity: int) -> StackCache:
        """An empty cache for as many sequences, of the model's dtype, on its device."""
        like = self.norm.weight
        return StackCache(
            len(self.layers),
            sequences,
            capacity,
            self.heads,
            self.width // self.heads,
            like.dtype,
            like.device,
        )

    def _stream(self, x: Tensor) -> Tensor:
        """``x`` in the dtype of the weights, which layers add to: float32 under autocast, and what its norms are fused for."""
        return x.to(self.norm.weight.dtype)

    def _angles(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of each position, ``(T, D / 2)``."""
        size = self.width // self.heads
        steps = torch.arange(0, size, 2, device=position_ids.device, dtype=torch.float32) / size
        angles = position_ids[:, None].float() * _BASE**-steps
        return angles.cos(), angles.sin()
