"""cross_entropy: the loss of logits that exist already, in one read of them.

Legend: ``T`` rows, ``V`` the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

from tersely.errors import KernelError
from tersely.kernels.backend import Backend, runs_triton
from tersely.kernels.checks import check_device, check_floats, check_rows
from tersely.kernels.loss import reference
from tersely.kernels.operator import operator
from tersely.kernels.rows import as_rows


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    softcap: float | None = None,
    *,
    backend: Backend | str = "auto",
) -> torch.Tensor:
    """The mean of ``-log softmax(logits)[label]`` over the rows that have a label; 0 if none has (torch gives NaN).

    Rows without a label are not read. Never waits for the device: a label that is no column gives NaN.

    Args:
        logits: ``(T, V)``, float16, bfloat16, float32 or float64; rows may be strided.
        labels: ``(T,)``, int64; -100 for rows without one.
        softcap: logits become ``softcap * tanh(logits / softcap)`` first (Gemma 2).
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Returns:
        A scalar, float32 (float64 for itself).

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or Triton was named and cannot run.
    """
    check_floats("logits", logits)
    if logits.ndim != 2:
        raise KernelError(f"logits has shape {tuple(logits.shape)}: give (T, V)")
    check_labels(labels, logits)
    losses, _ = row_losses(logits, labels, cap_of(softcap), backend)
    return losses.sum() / (labels != reference.NO_LABEL).sum().clamp(min=1)


def check_labels(labels: torch.Tensor, rows: torch.Tensor) -> None:
    """Raises KernelError if these are no labels ``(T,)``, int64, of these rows."""
    check_rows("labels", labels, len(rows))
    check_device("labels", labels, rows)
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise KernelError(
            f"labels is {labels.dtype} of shape {tuple(labels.shape)}: give int64 of shape (T,)"
        )


def cap_of(softcap: float | None) -> float:
    """The cap as the operators take it: 0 for none. Raises KernelError if it is negative."""
    if softcap is not None and softcap <= 0:
        raise KernelError(f"softcap is {softcap}: give a positive number, or None")
    return softcap or 0.0


@operator("cross_entropy")
def row_losses(
    logits: torch.Tensor, labels: torch.Tensor, softcap: float, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and the log-sum-exp of each row ``(T,)``; zeros for rows without a label."""
    if runs_triton(backend, logits):
        from tersely.kernels.loss import triton_cross_entropy

        return triton_cross_entropy.row_losses(as_rows(logits), labels.contiguous(), softcap)
    return reference.rows(logits, labels, softcap)


@row_losses.register_fake
def _(
    logits: torch.Tensor, labels: torch.Tensor, softcap: float, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    losses = logits.new_empty(len(logits), dtype=reference.accumulator(logits))
    return losses, torch.empty_like(losses)


@operator("cross_entropy_backward")
def row_gradients(
    grad: torch.Tensor,
    logits: torch.Tensor,
    labels: torch.Tensor,
    norms: torch.Tensor,
    softcap: float,
    backend: str,
) -> torch.Tensor:
    """The gradient of the logits ``(T, V)`` for gradients ``(T,)`` of the losses."""
    if runs_triton(backend, logits):
        from tersely.kernels.loss import triton_cross_entropy

        rows, out = as_rows(logits), logits.new_empty(logits.shape)
        return triton_cross_entropy.row_gradients(
            grad.contiguous(), rows, labels.contiguous(), norms, softcap, out
        )
    return reference.gradients(grad, logits, labels, norms, softcap)


@row_gradients.register_fake
def _(
    grad: torch.Tensor,
    logits: torch.Tensor,
    labels: torch.Tensor,
    norms: torch.Tensor,
    softcap: float,
    backend: str,
) -> torch.Tensor:
    return logits.new_empty(logits.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    logits, labels, ctx.softcap, ctx.backend = inputs
    ctx.save_for_backward(logits, labels, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[Any, ...]:
    return row_gradients(grad, *ctx.saved_tensors, ctx.softcap, ctx.backend), None, None, None


row_losses.register_autograd(_backward, setup_context=_remember)
