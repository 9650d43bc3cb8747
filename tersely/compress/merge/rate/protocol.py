"""What every rate control does: it may change a choice, and may add to the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from tersely.compress.merge.policies.protocol import Choice


class RateControl(Protocol):
    """Holds the share of positions that stay; what it has learned on the way is in its state."""

    def __call__(self, choice: Choice, cu_seqlens: Tensor) -> tuple[Choice, Tensor]:
        """The choice that stands, and a scalar for the loss: 0 where there is nothing to learn."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """What must be saved to go on."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Goes on from what ``state_dict`` gave."""
        ...
