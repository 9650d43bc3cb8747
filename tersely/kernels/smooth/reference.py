"""The plain twin: two stretches become one, twice as long each time (Hillis and Steele 1986).

A stretch takes what came before to ``decay * before + added``; one after the other is again of this form:

    (d1, a1) then (d2, a2)   =   (d1 d2, d2 a1 + a2)

Where ``d2`` is 0, ``a1`` does not count even if it is NaN, which so stays in its document.

Legend: ``T`` tokens, ``C`` columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tersely.kernels.segment.reference import accumulator


def recurrence(values: Tensor, decay: Tensor, weight: Tensor) -> Tensor:
    """``out[t] = decay[t] * out[t - 1] + weight[t] * values[t]``; values ``(T, C)``, the others ``(T,)``."""
    wide = accumulator(values)
    added = torch.where(weight[:, None] == 0, 0, weight.to(wide)[:, None] * values.to(wide))
    return scan(decay.to(wide), added).to(values.dtype)


def recurrence_backward(
    grad: Tensor, values: Tensor, out: Tensor, decay: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of values, decay and weight: what a position is worth is the same recurrence from the right."""
    wide = accumulator(values)
    after = torch.nn.functional.pad(decay.to(wide)[1:], (0, 1))
    worth = scan(after.flip(0), grad.to(wide).flip(0)).flip(0) if len(values) else grad.to(wide)
    before = torch.nn.functional.pad(out.to(wide)[:-1], (0, 0, 1, 0)) if len(values) else out.to(wide)
    of_values = torch.where(weight[:, None] == 0, 0, worth * weight.to(wide)[:, None]).to(values.dtype)
    return of_values, (worth * before).sum(1).to(decay.dtype), (worth * values).sum(1).to(weight.dtype)


def scan(decay: Tensor, added: Tensor) -> Tensor:
    """``out[t] = decay[t] * out[t - 1] + added[t]`` for ``(T,)`` and ``(T, C)``."""
    step = 1
    while step < len(decay):
        late = decay[step:, None]
        joined = added[step:] + torch.where(late == 0, 0, late * added[:-step])
        added = torch.cat([added[:step], joined])
        decay = torch.cat([decay[:step], decay[step:] * decay[:-step]])
        step *= 2
    return added
