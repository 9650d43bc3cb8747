"""packed_cross_entropy: a linear layer and its cross-entropy, without the logits of all rows at once.

    labels       -100  5  7  -100  2          rows with a label are moved together (K = 3 of T = 5),
    chunks            [5  7] [2]              each chunk's logits become its gradients where they lie

Legend: ``T`` packed tokens, ``N`` segments, ``C`` channels, ``V`` the vocabulary, ``K`` rows with a label.
"""

from __future__ import annotations

from typing import Any

import torch

from tersely.errors import KernelError
from tersely.kernels.backend import Backend
from tersely.kernels.checks import check_cu_seqlens, check_device, check_floats
from tersely.kernels.loss.chunked import Gradients, loss_and_gradients
from tersely.kernels.loss.cross_entropy import cap_of, check_labels
from tersely.kernels.loss.reference import NO_LABEL
from tersely.kernels.operator import operator
from tersely.kernels.segment.reference import accumulator

CHUNK = 4096
"""Rows of logits at once: 1 GB for 128,000 bf16 columns; the weight's gradient is added up once for each chunk."""


def packed_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    bias: torch.Tensor | None = None,
    softcap: float | None = None,
    chunk: int = CHUNK,
    *,
    shift: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    capacity: int | None = None,
    backend: Backend | str = "auto",
) -> torch.Tensor:
    """The mean cross-entropy of ``hidden @ weight.T + bias`` over the rows that have a label; 0 if none has.

    Rows without a label are dropped before the product, and only ``chunk`` rows of logits exist at a time. Gradients are
    made together with the loss, if any are wanted, and scaled in the backward pass, so it cannot be differentiated twice.
    Waits once for the device, for the number of labels, unless ``capacity`` is given.

    Args:
        hidden: ``(T, C)``, float16, bfloat16, float32 or float64.
        weight: ``(V, C)`` of the same dtype.
        labels: ``(T,)``, int64; -100 for rows without one.
        bias: ``(V,)`` of the same dtype.
        softcap: logits become ``softcap * tanh(logits / softcap)`` first (Gemma 2).
        chunk: rows of logits at a time.
        shift: labels are the tokens themselves: the label of a row is that of the next one in its segment, and the last
            row of each segment has none. Needs ``cu_seqlens``.
        cu_seqlens: ``(N + 1,)``, int32 or int64. Rows past ``cu_seqlens[-1]`` have no label, whatever ``labels`` says.
        capacity: rows with a label at most; what is beyond it is left out of the mean.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Returns:
        A scalar, float32 (float64 for itself).

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or Triton was named and cannot run.
    """
    _check(hidden, weight, bias, chunk, capacity)
    check_labels(labels, hidden)
    if cu_seqlens is not None:
        check_cu_seqlens(cu_seqlens, hidden)
        labels = _next(labels, cu_seqlens) if shift else _without_slack(labels, cu_seqlens)
    elif shift:
        raise KernelError("shift=True needs cu_seqlens, or labels would cross boundaries: give them")
    wanted = [
        tensor is not None and torch.is_grad_enabled() and tensor.requires_grad
        for tensor in (hidden, weight, bias)
    ]
    rows = len(hidden) if capacity is None else capacity
    loss, *_ = chunked(
        hidden, weight, bias, labels, cap_of(softcap), chunk, rows, capacity is None, *wanted, backend
    )
    return loss


def _next(labels: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    """Labels of the next token, ``(T,)``; none for the last of a segment and in slack rows."""
    following = torch.cat([labels[1:], labels.new_full((min(1, len(labels)),), NO_LABEL)])
    starts = torch.zeros(len(labels) + 1, dtype=torch.bool, device=labels.device)
    starts.index_fill_(0, cu_seqlens.long(), True)
    return _without_slack(following.masked_fill(starts[1:], NO_LABEL), cu_seqlens)


def _without_slack(labels: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    slack = torch.arange(len(labels), device=labels.device) >= cu_seqlens[-1]
    return labels.masked_fill(slack, NO_LABEL)


def _check(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, chunk: int, capacity: int | None
) -> None:
    named = [("hidden", hidden), ("weight", weight), *([("bias", bias)] if bias is not None else [])]
    for name, tensor in named:
        check_floats(name, tensor)
        check_device(name, tensor, hidden)
        if tensor.dtype != hidden.dtype:
            raise KernelError(f"{name} is {tensor.dtype}, hidden is {hidden.dtype}: give them one dtype")
    if hidden.ndim != 2 or weight.ndim != 2 or weight.shape[1] != hidden.shape[1]:
        raise KernelError(
            f"hidden has shape {tuple(hidden.shape)} and weight {tuple(weight.shape)}: give (T, C) and (V, C)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise KernelError(
            f"bias has shape {tuple(bias.shape)}: give {tuple(weight.shape[:1])}, one for each row of weight"
        )
    if chunk < 1 or (capacity is not None and capacity < 0):
        raise KernelError(f"chunk is {chunk} and capacity {capacity}: give numbers of rows")


@operator("packed_cross_entropy")
def chunked(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    softcap: float,
    chunk: int,
    rows: int,
    exact: bool,
    hidden_wanted: bool,
    weight_wanted: bool,
    bias_wanted: bool,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss, and the gradients of ``hidden``, ``weight`` and ``bias`` that are wanted (the others are empty)."""
    wanted = Gradients(hidden_wanted, weight_wanted, bias_wanted)
    return loss_and_gradients(hidden, weight, bias, labels, softcap, chunk, rows, exact, wanted, backend)


@chunked.register_fake
def _(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    softcap: float,
    chunk: int,
    rows: int,
    exact: bool,
    hidden_wanted: bool,
    weight_wanted: bool,
    bias_wanted: bool,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        hidden.new_empty((), dtype=accumulator(hidden)),
        hidden.new_empty(hidden.shape if hidden_wanted else (0,)),
        hidden.new_empty(weight.shape if weight_wanted else (0,)),
        hidden.new_empty(weight.shape[:1] if bias_wanted else (0,)),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.wanted = inputs[8:11]
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    made = [
        (gradient * grad).to(gradient.dtype) if wanted else None
        for gradient, wanted in zip(ctx.saved_tensors, ctx.wanted, strict=True)
    ]
    return *made, *(None,) * 9


chunked.register_autograd(_backward, setup_context=_remember)
