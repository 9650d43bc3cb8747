"""The network: a new row is the mean of the old rows of the token's pieces, and what the network adds to it.

Residual form of arXiv 2503.20083, appendix D: the output layer starts at zero, so an untrained network is the method ``mean``.
It reads rows, never ids, so it serves fine-tuned variants of its model, and any new vocabulary.

    N tokens, P slots for pieces (surface.py), D dimensions of a row, W of the network

    old rows (N, P, D) -> centred, scaled -> W -> + which slot, + which kind, + how often -> layers -> mean over slots -> 0 -> D
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from tersely.embeddings.transfer.hypernet.surface import KINDS, PIECES, SLOTS, SPECIAL

_SPREAD = 4.0  # of frequencies, about
_HEAD = 64  # dimensions of a head of attention
_WIDTHS = (2, 5, SLOTS)  # slots that tokens are brought to: few are empty, and a GPU gets few small calls


class HypernetConfig(PretrainedConfig):
    """What decides a network.

    Args:
        dims: for each table that it makes the dimension of a row: ``inputs``, and ``head`` where the model has its own.
        width: dimensions inside; a multiple of 64.
        layers: of the transformer.
        fingerprint: of the vocabulary that the old rows belong to.
        counted: whether it is told how often tokens occur.
    """

    model_type = "tersely-hypernet"

    def __init__(
        self,
        dims: dict[str, int] | None = None,
        width: int = 512,
        layers: int = 3,
        fingerprint: str = "",
        counted: bool = False,
        **settings: Any,
    ) -> None:
        self.dims, self.width, self.layers, self.fingerprint = dims or {}, width, layers, fingerprint
        self.counted = counted
        super().__init__(**settings)


class Hypernet(PreTrainedModel):
    """A network for each table."""

    config_class = HypernetConfig
    base_model_prefix = "hypernet"

    def __init__(self, config: HypernetConfig) -> None:
        super().__init__(config)
        self.tables = nn.ModuleDict(
            {
                name: _Rows(size, config.width, config.layers, config.counted)
                for name, size in config.dims.items()
            }
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights start as the parts of the network make them."""

    @torch.no_grad()
    def measure(self, table: str, old: Tensor) -> None:
        """Centres and scales by the rows of a table, ``(V_old, D)``, before training."""
        part: Any = self.tables[table]
        part.center.copy_(old.mean(0))
        part.scale.copy_(old.std(0).clamp(min=1e-6))

    def forward(
        self, table: str, old: Tensor, pieces: Tensor, kinds: Tensor, frequencies: Tensor | None = None
    ) -> Tensor:
        """What is to be added to the means of pieces, float32 ``(N, D)``; zero for special tokens.

        Args:
            table: its name.
            old: float32, ``(V_old, D)``.
            pieces: int64, ``(N, SLOTS)``: old ids, negative where there are none.
            kinds: int64, ``(N,)``.
            frequencies: float32, ``(N,)``; by default, as often as its pieces.
        """
        if frequencies is None:
            frequencies = torch.zeros_like(kinds, dtype=torch.float32)
        return self.tables[table](old, pieces, kinds, frequencies)


def with_average(old: Tensor, ordinary: Tensor) -> Tensor:
    """The old table and behind it the mean of the rows of text, ``(V_old + 1, D)``: the row of a token without pieces."""
    return torch.cat([old, old[ordinary].mean(0, keepdim=True)])


def means(old: Tensor, pieces: Tensor) -> Tensor:
    """The means of the first ``PIECES`` pieces, ``(N, D)``; the last row of ``old`` where there are none."""
    pieces = pieces[:, :PIECES]
    there = (pieces >= 0).unsqueeze(-1)
    found = (old[pieces] * there).sum(1) / there.sum(1).clamp(min=1)
    return torch.where(there.any(1), found, old[-1])


class _Rows(nn.Module):
    """The network of one table."""

    center: Tensor
    scale: Tensor

    def __init__(self, size: int, width: int, layers: int, counted: bool) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.enter = nn.Linear(size, width)
        self.slots = nn.Parameter(0.02 * torch.randn(SLOTS + 1, width))
        self.kinds = nn.Parameter(0.02 * torch.randn(KINDS, width))
        self.counts = nn.Linear(1, width, bias=False) if counted else None
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, old: Tensor, pieces: Tensor, kinds: Tensor, frequencies: Tensor) -> Tensor:
        """Tokens are sorted by the slots they need, so that few are empty."""
        pieces, slots, lengths = _to_the_left(pieces, len(old) - 1)
        told = self.kinds[kinds]
        if self.counts is not None:
            told = told + self.counts(frequencies.unsqueeze(1) / _SPREAD)
        groups = list[Tensor]()
        found = list[Tensor]()
        shortest = 0
        for width in _WIDTHS:
            group = ((lengths > shortest) & (lengths <= width)).nonzero()[:, 0]
            shortest = width
            if len(group):
                groups.append(group)
                found.append(
                    self._of(old, pieces[group, :width], slots[group, :width], told[group], lengths[group])
                )
        order = torch.cat(groups).argsort()
        added = torch.cat(found).float()[order] * self.scale
        return added * (kinds != SPECIAL).unsqueeze(1)

    def _of(self, old: Tensor, pieces: Tensor, slots: Tensor, told: Tensor, lengths: Tensor) -> Tensor:
        there = torch.arange(pieces.shape[1], device=pieces.device) < lengths.unsqueeze(1)
        states = self.enter((old[pieces] - self.center) / self.scale)
        states = states + self.slots[slots] + told.unsqueeze(1)
        for layer in self.layers:
            states = layer(states, there)
        pooled = (states * there.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)
        return self.leave(self.norm(pooled))


class _Layer(nn.Module):
    """A layer of a transformer over the slots of each token; norms come first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(width // _HEAD, 1)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.enter, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        """States ``(N, P, W)``; ``there``: bool, ``(N, P)``."""
        number, slots, width = states.shape
        parts = self.enter(self.first(states)).view(number, slots, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5
        scores = scores.masked_fill(~there[:, None, None], -torch.inf).softmax(-1)
        seen = (scores.to(value.dtype) @ value).transpose(1, 2).reshape(number, slots, width)
        states = states + self.leave(seen)
        return states + self.down(nn.functional.gelu(self.up(self.second(states))))


def _to_the_left(pieces: Tensor, average: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces with the empty slots behind them, the slot that each came from, and how many there are, at least one: a token
    without pieces has the average row, in a slot of its own.
    """
    slots = (pieces < 0).to(torch.uint8).argsort(dim=1, stable=True)
    pieces, lengths = pieces.gather(1, slots), (pieces >= 0).sum(1)
    slots[lengths == 0, 0] = SLOTS
    pieces[lengths == 0, 0] = average
    return pieces.clamp(min=0), slots, lengths.clamp(min=1)
