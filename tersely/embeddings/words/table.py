"""TablePool: words as weighted sums, means, maxima or first ones of vectors that a byte and its place in the word decide.

Byte2Word (Lee et al. 2022, arXiv 2211.12677): learned queries attend to the bytes of a word. A key and a value depend on
the byte and its place alone, so however many bytes a batch has, they are computed for ``256 L`` pairs and looked up:

    256 L pairs  --MLP-->  keys, values, once a batch         bytes  --look up-->  scores, values  --softmax in words-->

What the other kinds do without attention, they do with the same values.

Legend: ``T`` bytes, ``W`` words, ``L`` places, ``p`` queries, ``C`` local width, ``H`` heads, ``D = C / H``, ``R`` pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tersely.embeddings.words.mlp import GatedMlp
from tersely.errors import UsageError
from tersely.kernels import segment_reduce
from tersely.kernels.segment import positions_of_tokens


class TablePool(nn.Module):
    """Bytes of words to ``(W, p, C)``; empty words to zeros.

    Args:
        kind: ``"query"``, ``"mean"``, ``"max"`` or ``"first"``.
        slots: ``p``; vectors of the last three kinds have values of their own each.
        width: ``C``.
        heads: ``H``, of the queries.
        places: ``L``; bytes further behind count as if they stood at the last one.

    Raises:
        UsageError: the heads do not divide the width.
    """

    def __init__(self, kind: str, slots: int, width: int, heads: int, places: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UsageError(f"a local width of {width} cannot be cut into {heads} heads: change one of them")
        self.kind, self.slots, self.heads, self.places = kind, slots, heads, places
        self.byte = nn.Embedding(256, width)
        self.place = nn.Embedding(places, width)
        self.mlp = GatedMlp(width)
        self.norm = nn.RMSNorm(width, eps=1e-6)
        query = kind == "query"
        self.value = nn.Linear(width, width if query else slots * width, bias=False)
        self.key = nn.Linear(width, width, bias=False) if query else None
        self.query = nn.Parameter(torch.empty(slots, heads, width // heads)) if query else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal queries; the other parts have their own weights."""
        if self.query is not None:
            nn.init.normal_(self.query)

    def forward(self, input_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Bytes ``(T,)`` and boundaries of words ``(W + 1,)`` to ``(W, p, C)``."""
        values, scores = self._looked_up(input_ids, positions_of_tokens(cu_seqlens, len(input_ids)))
        if scores is not None:
            heads = values.unflatten(1, (self.heads, -1))
            by_query = scores.unflatten(1, (self.slots, -1)).unbind(1)
            pooled = [segment_reduce(heads, cu_seqlens, "softmax", own) for own in by_query]
            return torch.stack(pooled, 1).flatten(2)
        if self.kind == "first":
            return _first(values, cu_seqlens).unflatten(1, (self.slots, -1))
        return segment_reduce(values, cu_seqlens, self.kind).unflatten(1, (self.slots, -1))

    def _looked_up(self, input_ids: Tensor, places: Tensor) -> tuple[Tensor, Tensor | None]:
        """Values of bytes ``(T,)``, ``(T, C)`` or ``(T, p C)``, and scores ``(T, p H)``."""
        pairs = input_ids * self.places + places.clamp(max=self.places - 1)
        every = 256 * self.places
        if len(pairs) <= every:
            rows = self._rows(pairs)
            return self.value(rows), self._scores(rows)
        rows = self._rows(torch.arange(every, device=pairs.device))
        scores = self._scores(rows)
        look_up = nn.functional.embedding
        return look_up(pairs, self.value(rows)), None if scores is None else look_up(pairs, scores)

    def _rows(self, pairs: Tensor) -> Tensor:
        """What is known of pairs of byte and place ``(R,)``, ``(R, C)``."""
        x = self.byte(pairs // self.places) + self.place(pairs % self.places)
        return self.norm(self.mlp(x))

    def _scores(self, rows: Tensor) -> Tensor | None:
        """How well keys fit the queries, ``(R, p H)``."""
        if self.key is None or self.query is None:
            return None
        keys = self.key(rows).unflatten(1, (self.heads, -1))
        scores = torch.einsum("rhd,phd->rph", keys, self.query.to(keys.dtype))
        return (scores * keys.shape[2] ** -0.5).flatten(1)


def _first(values: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The first of the values ``(T, C)`` of each word, ``(W, C)``; zeros for empty words."""
    starts, ends = cu_seqlens[:-1].long(), cu_seqlens[1:]
    padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
    return padded.index_select(0, torch.where(starts < ends, starts, len(values)))
