"""What every policy gives: positions that stay, and what it decided by.

Legend: ``T`` packed positions, ``C`` width, ``N`` documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Choice:
    """What a policy decided for packed positions. Slack rows past the last document are never kept.

    Attributes:
        keep: bool, ``(T,)``: positions that stay; for models that merge, those that begin a group.
        score: float, ``(T,)``: what was decided by, the higher the sooner kept; differentiable where it is learned. The
            exact-rate form keeps the highest of each document.
        gate: float, ``(T,)``, or None: what soft deletion adds to the attention scores of a position as a key.
        probability: float, ``(T,)``, or None: of staying, for losses on the rate, smoothing and straight-through gradients.
    """

    keep: Tensor
    score: Tensor
    gate: Tensor | None = None
    probability: Tensor | None = None


class BoundaryPolicy(Protocol):
    """Which positions stay, or begin a group; all are ``torch.nn.Module``, so that what they know is saved with the model."""

    @property
    def causal(self) -> bool:
        """Whether a decision hangs on its own position and those before it alone, so that it may be used in a decoder."""
        ...

    @property
    def reach(self) -> int:
        """How many positions before its own a causal decision reads: what generation keeps of the past."""
        ...

    def __call__(
        self, hidden: Tensor, cu_seqlens: Tensor, input_ids: Tensor, position_ids: Tensor | None = None
    ) -> Choice:
        """Decides.

        Args:
            hidden: ``(T, C)``, the states that the positions have.
            cu_seqlens: ``(N + 1,)``, int32: documents; rows past the last are slack.
            input_ids: int64, ``(T,)``: what each position read.
            position_ids: int64, ``(T,)``: where each stands in its document, -1 in slack rows; counted by default.
                Generation gives it, with the last ``reach + 1`` positions of each document alone.
        """
        ...
