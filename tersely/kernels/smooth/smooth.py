"""exponential_smoothing: each token takes part of its value from the token before it.

Legend: ``T`` packed tokens, ``N`` documents, ``C`` channels.
"""

from __future__ import annotations

from typing import Any

import torch

from tersely.errors import KernelError
from tersely.kernels.backend import Backend, runs_triton
from tersely.kernels.checks import check_cu_seqlens, check_device, check_floats, check_rows
from tersely.kernels.operator import operator
from tersely.kernels.rows import as_rows
from tersely.kernels.smooth import reference


def exponential_smoothing(
    values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor, *, backend: Backend | str = "auto"
) -> torch.Tensor:
    """``out[t] = weights[t] * values[t] + (1 - weights[t]) * out[t - 1]`` inside each document, from 0 before its first token.

    H-Net's dechunking (arXiv 2507.07955): values of chunks, repeated to their tokens, are smoothed by how sure
    the router is of each boundary. States are float32 (float64 for itself); the same input gives the same bits. Never
    waits for the device: launches depend on ``T`` and ``C`` alone.

    Args:
        values: ``(T, C...)``, float16, bfloat16, float32 or float64; differentiable.
        weights: ``(T,)``, floats in [0, 1], which is not checked; differentiable.
        cu_seqlens: ``(N + 1,)``, int32 or int64: ``cu_seqlens[0] == 0``, non-decreasing, at most ``T``.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Returns:
        ``(T, C...)`` of the dtype of ``values``. Rows past ``cu_seqlens[-1]`` are slack: they are not read, are 0, and get
        no gradient.

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or Triton was named and cannot run.
    """
    check_floats("values", values)
    check_floats("weights", weights)
    check_rows("weights", weights, len(values))
    if weights.ndim != 1:
        raise KernelError(f"weights has shape {tuple(weights.shape)}: give (T,), one weight for each token")
    check_device("weights", weights, values)
    check_cu_seqlens(cu_seqlens, values)
    rows = values.flatten(1) if values.ndim > 1 else values[:, None]
    return smooth_rows(rows, weights, cu_seqlens, backend).reshape(values.shape)


@operator("exponential_smoothing")
def smooth_rows(
    values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor, backend: str
) -> torch.Tensor:
    """Rows ``(T, C)`` from values ``(T, C)`` and weights ``(T,)``."""
    if runs_triton(backend, values):
        from tersely.kernels.smooth.triton_smooth import smoothed

        return smoothed(as_rows(values), weights.contiguous(), cu_seqlens)
    return reference.smooth(values, weights, cu_seqlens)


@smooth_rows.register_fake
def _(values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor, backend: str) -> torch.Tensor:
    return values.new_empty(values.shape)


@operator("exponential_smoothing_backward")
def smooth_backward(
    grad: torch.Tensor, values: torch.Tensor, weights: torch.Tensor, out: torch.Tensor, cu_seqlens: torch.Tensor, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Gradients of values ``(T, C)`` and weights ``(T,)``."""
    if runs_triton(backend, values):
        from tersely.kernels.smooth.triton_backward import smoothed_backward

        return smoothed_backward(
            as_rows(grad), as_rows(values), weights.contiguous(), as_rows(out), cu_seqlens
        )
    return reference.smooth_backward(grad, values, weights, out, cu_seqlens)


@smooth_backward.register_fake
def _(
    grad: torch.Tensor, values: torch.Tensor, weights: torch.Tensor, out: torch.Tensor, cu_seqlens: torch.Tensor, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    return values.new_empty(values.shape), weights.new_empty(weights.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    values, weights, cu_seqlens, ctx.backend = inputs
    ctx.save_for_backward(values, weights, cu_seqlens, output)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    values, weights, cu_seqlens, out = ctx.saved_tensors
    return *smooth_backward(grad, values, weights, out, cu_seqlens, ctx.backend), None, None


smooth_rows.register_autograd(_backward, setup_context=_remember)
