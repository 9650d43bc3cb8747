"""PIController: the weight of a gate's regulariser, so that a share of positions is deleted (MrT5, section 3.4).

    error = target - share deleted
    p = 0.9 p + 0.1 * 0.5 * error,  i = i + 1e-5 * error,  weight = max(0, p + i)

The loss is then ``loss + weight * mean(G)``: as ``G`` is negative, a weight pulls towards deletion.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tersely.errors import UsageError


class PIController:
    """Proportional and integral control, one ``step`` for each step of training. Never waits for the device.

    Args:
        target: the share to delete, from 0 to 1.
        proportional: factor of the error, which then decays by a tenth each step.
        integral: factor of the sum of all errors; what holds the rate in the end.

    Raises:
        UsageError: the target is out of range.
    """

    def __init__(self, target: float, proportional: float = 0.5, integral: float = 1e-5) -> None:
        if not 0 <= target <= 1:
            raise UsageError(f"a target of {target} cannot be deleted: give a share from 0 to 1")
        self.target, self.proportional, self.integral = target, proportional, integral
        self.state = torch.zeros(2)

    def step(self, deleted: Tensor | float) -> Tensor:
        """The weight of the regulariser, a scalar, from the share that hard deletion takes away now."""
        deleted = torch.as_tensor(deleted).detach().float()
        error = self.target - deleted
        decay = self.state.new_tensor([0.9, 1.0]).to(deleted.device)
        gain = self.state.new_tensor([0.1 * self.proportional, self.integral]).to(deleted.device)
        self.state = decay * self.state.to(deleted.device) + gain * error
        return self.state.sum().clamp(min=0)

    def state_dict(self) -> dict[str, Tensor]:
        """What must be saved to go on: the two parts of the weight."""
        return {"state": self.state.cpu()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Goes on from what ``state_dict`` gave."""
        self.state = state_dict["state"].clone()
