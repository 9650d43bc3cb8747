"""PIController: the weight of a gate's regulariser, so that a share of positions is deleted (MrT5, section 3.4).

    error = target - share deleted
    p = 0.9 p + 0.1 * 0.5 * error,  i = i + 1e-5 * error,  weight = max(0, p + i)

The loss is then ``loss + weight * mean(G)``: as ``G`` is negative, a weight pulls towards deletion.

Legend: ``T`` packed positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tersely.compress.merge.policies.protocol import Choice
from tersely.compress.merge.rate.mean import mean_of
from tersely.errors import UsageError


class PIController(nn.Module):
    """Proportional and integral control, a ``RateControl`` that is called once for each step of training.

    Its state is the two parts of the weight. Never waits for the device.

    Args:
        target: the share to delete, from 0 to 1.
        proportional: factor of the error, which then decays by a tenth each step.
        integral: factor of the sum of all errors; what holds the rate in the end.

    Raises:
        UsageError: the target is out of range, or, in a call, the policy gives no gate.
    """

    state: Tensor

    def __init__(self, target: float, proportional: float = 0.5, integral: float = 1e-5) -> None:
        super().__init__()
        if not 0 <= target <= 1:
            raise UsageError(f"a target of {target} cannot be deleted: give a share from 0 to 1")
        self.target, self.proportional, self.integral = target, proportional, integral
        self.register_buffer("state", torch.zeros(2))

    def forward(self, choice: Choice, cu_seqlens: Tensor) -> tuple[Choice, Tensor]:
        """See ``RateControl``."""
        if choice.gate is None:
            raise UsageError("the controller pulls at a gate, and this policy has none: use DeleteGate")
        deleted = 1 - mean_of(choice.keep, cu_seqlens)
        return choice, self.step(deleted) * mean_of(choice.gate, cu_seqlens)

    def step(self, deleted: Tensor | float) -> Tensor:
        """The weight of the regulariser, a scalar, from the share that hard deletion takes away now."""
        deleted = torch.as_tensor(deleted).detach().float()
        error = self.target - deleted
        p, i = self.state.to(deleted.device).unbind()
        self.state = torch.stack([0.9 * p + 0.1 * self.proportional * error, i + self.integral * error])
        return self.state.sum().clamp(min=0)
