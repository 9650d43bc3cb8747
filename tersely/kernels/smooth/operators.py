"""The operator ``out[t] = decay[t] * out[t - 1] + weight[t] * values[t]`` and its backward, as torch sees them.

Legend: ``T`` tokens, ``C`` columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tersely.kernels.backend import runs_triton
from tersely.kernels.operator import operator
from tersely.kernels.smooth import reference


@operator("smooth")
def recurrence(values: Tensor, decay: Tensor, weight: Tensor, backend: str) -> Tensor:
    """Values ``(T, C)``, decay and weight ``(T,)`` to ``(T, C)``."""
    if runs_triton(backend, values):
        from tersely.kernels.smooth.triton_scan import scanned

        return scanned(values, decay, weight)
    return reference.recurrence(values, decay, weight)


@recurrence.register_fake
def _(values: Tensor, decay: Tensor, weight: Tensor, backend: str) -> Tensor:
    return values.new_empty(values.shape)


@operator("smooth_backward")
def recurrence_backward(
    grad: Tensor, values: Tensor, out: Tensor, decay: Tensor, weight: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of values ``(T, C)``, decay and weight ``(T,)``."""
    if runs_triton(backend, values):
        from tersely.kernels.smooth.triton_scan import scanned_backward

        return scanned_backward(grad.contiguous(), values, out, decay, weight)
    return reference.recurrence_backward(grad, values, out, decay, weight)


@recurrence_backward.register_fake
def _(
    grad: Tensor, values: Tensor, out: Tensor, decay: Tensor, weight: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    return values.new_empty(values.shape), torch.empty_like(decay), torch.empty_like(weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    values, decay, weight, ctx.backend = inputs
    ctx.save_for_backward(values, output, decay, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *recurrence_backward(grad, *ctx.saved_tensors, ctx.backend), None


recurrence.register_autograd(_backward, setup_context=_remember)
