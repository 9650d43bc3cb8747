"""RandomPolicy: positions drawn by a seed, the control that knows nothing.

What is drawn hangs on the seed, the position, its id and the one before: the same text gets the same choice in every
batch, on every device and in generation, other texts get others, and nothing later is looked at. The mixing of the bits
is that of SplitMix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tersely.compress.merge.policies.earlier import earlier
from tersely.compress.merge.policies.exact import as_fraction
from tersely.compress.merge.policies.protocol import Choice
from tersely.kernels.segment import positions_of_tokens


class RandomPolicy(nn.Module):
    """Keeps the first position of a document and each other with a probability of ``share``. Causal; its exact form is not.

    Args:
        share: of positions that stay. UsageError unless above 0 and at most 1.
        seed: what is drawn comes from.
    """

    causal, reach = True, 1

    def __init__(self, share: float, seed: int = 0) -> None:
        super().__init__()
        self.share, self.seed = float(as_fraction(share)), seed

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, input_ids: Tensor, position_ids: Tensor | None = None
    ) -> Choice:
        """See ``BoundaryPolicy``; scores are uniform in (0, 1]."""
        at = positions_of_tokens(cu_seqlens, len(input_ids)) if position_ids is None else position_ids
        drawn = torch.full_like(at, self.seed)
        for part in (at, input_ids, earlier(input_ids, at, 1, -1)):
            drawn = _mixed(drawn ^ part)
        score = 1 - (drawn & 0xFFFFFF).float() / (1 << 24)
        return Choice((at == 0) | ((at > 0) & (score > 1 - self.share)), score)


def _mixed(x: Tensor) -> Tensor:
    """Bits of int64 ``(T,)``, well shaken."""
    x = x - 0x61C8864680B583EB
    x = (x ^ _shifted(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shifted(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """To the right, with zeros from the left: what unsigned numbers do."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
