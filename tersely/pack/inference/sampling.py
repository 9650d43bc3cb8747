"""The next token from logits: the most probable, or one drawn with a seed.

What is drawn for a prompt depends on the seed, its number and its own logits, never on the prompts beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tersely.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 for the most probable token, else what logits are divided by.
        top_k: draw from the most probable ``top_k`` tokens only; 0 for all.
        top_p: draw from the fewest tokens whose probabilities sum to ``top_p``.
        seed: what is drawn comes from.

    Raises:
        UsageError: a value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError(
                f"temperature {self.temperature} and top_k {self.top_k} must not be negative, top_p {self.top_p} in (0, 1]"
            )


class Sampler:
    """Chooses the tokens of prompts, each with its own stream of random numbers."""

    def __init__(self, sampling: Sampling, prompts: int) -> None:
        self._sampling = sampling
        self._streams = [np.random.default_rng([sampling.seed, number]) for number in range(prompts)]

    def choose(self, logits: Tensor, running: Sequence[int]) -> Tensor:
        """One token of each of the prompts ``running`` from logits ``(n, vocabulary)``."""
        if not self._sampling.temperature:
            return logits.argmax(-1)
        drawn = [self._streams[number].random() for number in running]
        return draw(logits, torch.tensor(drawn, dtype=torch.float64, device=logits.device), self._sampling)


def draw(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Tokens at the places ``uniform`` ``(n,)``, in [0, 1), of the distributions that logits ``(n, vocabulary)`` give."""
    p, order = (logits.double() / sampling.temperature).softmax(-1).sort(dim=-1, descending=True, stable=True)
    if sampling.top_k:
        p[:, sampling.top_k :] = 0
        p = p / p.sum(-1, keepdim=True)
    if sampling.top_p < 1:
        before = p.cumsum(-1) - p
        p = p.masked_fill(before >= sampling.top_p, 0)
    sums = p.cumsum(-1)
    place = torch.searchsorted(sums, (uniform * sums[:, -1])[:, None], right=True)
    last = (p > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(place, last))[:, 0]
