"""segment_reduce: one value for each segment of packed values.

Legend: ``T`` packed tokens, ``N`` segments, ``C`` channels, ``H`` heads.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import torch

from tersely.errors import KernelError, choose
from tersely.kernels.backend import Backend, runs_triton
from tersely.kernels.checks import check_cu_seqlens, check_device, check_floats, check_rows
from tersely.kernels.operator import operator
from tersely.kernels.rows import as_rows
from tersely.kernels.segment import reference
from tersely.kernels.segment.expand import expand_rows
from tersely.kernels.segment.pool import softmax_pool


class Reduce(StrEnum):
    """What becomes of the tokens of a segment."""

    SUM = "sum"
    MEAN = "mean"
    MAX = "max"
    """The largest; NaN if there is one. Its gradient goes to the first row that has it."""
    SOFTMAX = "softmax"
    """The sum weighted by the softmax, inside the segment, of the tokens' weights."""


def segment_reduce(
    values: torch.Tensor,
    cu_seqlens: torch.Tensor,
    reduce: Reduce | str = "sum",
    weights: torch.Tensor | None = None,
    *,
    backend: Backend | str = "auto",
) -> torch.Tensor:
    """One value for each segment: words of bytes, documents of tokens, groups of merged tokens.

    Adds in float32 (float64 for itself), without atomics, so the same input gives the same bits. Never waits for the
    device: the launch depends on ``T``, ``N`` and ``C`` alone, so it can be captured in a CUDA graph and replayed for
    other ``cu_seqlens`` of these shapes. To merge many tokens into one, ``compact`` the boundaries and reduce over them.

    Args:
        values: ``(T, C...)``, float16, bfloat16, float32 or float64; rows may be strided.
        cu_seqlens: ``(N + 1,)``, int32 or int64: ``cu_seqlens[0] == 0``, non-decreasing, at most ``T``. Rows past
            ``cu_seqlens[-1]`` are slack: they are not read, and their gradient is zero.
        reduce: ``"sum"``, ``"mean"``, ``"max"`` or ``"softmax"``.
        weights: the scores of ``"softmax"``, ``(T,)``, or ``(T, H)`` for values ``(T, H, C...)``: each head has its own.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Returns:
        ``(N, C...)`` of the dtype of ``values``; zeros for empty segments.

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or Triton was named and cannot run.
        UsageError: there is no such ``reduce``.
    """
    kind = choose(Reduce, reduce)
    check_floats("values", values)
    check_cu_seqlens(cu_seqlens, values)
    if (weights is not None) != (kind is Reduce.SOFTMAX):
        raise KernelError(
            f"weights are for reduce='softmax' and it needs them, but reduce is {str(kind)!r} and weights is "
            f"{'missing' if weights is None else 'given'}"
        )
    rows = values.flatten(1) if values.ndim > 1 else values[:, None]
    if weights is None:
        out, _ = reduce_rows(rows, cu_seqlens, kind.value, backend)
    else:
        out, _ = softmax_pool(rows, _by_head(weights, values), cu_seqlens, backend)
    return out.reshape(len(cu_seqlens) - 1, *values.shape[1:])


def _by_head(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    check_floats("weights", weights)
    check_rows("weights", weights, len(values))
    check_device("weights", weights, values)
    if weights.ndim == 1:
        return weights[:, None]
    if weights.ndim != 2 or values.ndim < 2 or weights.shape[1] != values.shape[1]:
        raise KernelError(
            f"weights has shape {tuple(weights.shape)} for values {tuple(values.shape)}: give (T,), or (T, H) for "
            "values (T, H, C...)"
        )
    return weights


@operator("segment_reduce")
def reduce_rows(
    values: torch.Tensor, cu_seqlens: torch.Tensor, reduce: str, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values ``(T, C)`` to ``(N, C)``; and for maxima the first row of each, int32 ``(N, C)``, else nothing."""
    if not runs_triton(backend, values):
        return reference.reduce(values, cu_seqlens, reduce)
    if reduce == Reduce.MAX:
        from tersely.kernels.segment.triton_maxima import segment_maxima

        return segment_maxima(as_rows(values), cu_seqlens)
    from tersely.kernels.segment.triton_sums import segment_sums

    sums = segment_sums(as_rows(values), cu_seqlens, reduce == Reduce.MEAN)
    return sums, values.new_empty(0, dtype=torch.int32)


@reduce_rows.register_fake
def _(
    values: torch.Tensor, cu_seqlens: torch.Tensor, reduce: str, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    out = values.new_empty(len(cu_seqlens) - 1, values.shape[1])
    rows = out.shape if reduce == Reduce.MAX else (0,)
    return out, values.new_empty(rows, dtype=torch.int32)


@operator("segment_select")
def select_rows(
    grad: torch.Tensor, rows: torch.Tensor, cu_seqlens: torch.Tensor, tokens: int, backend: str
) -> torch.Tensor:
    """The gradient of maxima: ``grad`` ``(N, C)`` in the rows ``(N, C)`` that won, zeros elsewhere; ``(T, C)``."""
    if runs_triton(backend, grad):
        from tersely.kernels.segment.triton_expand import expanded

        return expanded(as_rows(grad), cu_seqlens, tokens, only_rows=rows)
    return reference.select(grad, rows, cu_seqlens, tokens)


@select_rows.register_fake
def _(
    grad: torch.Tensor, rows: torch.Tensor, cu_seqlens: torch.Tensor, tokens: int, backend: str
) -> torch.Tensor:
    return grad.new_empty(tokens, grad.shape[1])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    values, cu_seqlens, ctx.reduce, ctx.backend = inputs
    ctx.tokens = len(values)
    ctx.save_for_backward(cu_seqlens, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[Any, ...]:
    cu_seqlens, rows = ctx.saved_tensors
    if ctx.reduce == Reduce.MAX:
        back = select_rows(grad, rows, cu_seqlens, ctx.tokens, ctx.backend)
    else:
        back = expand_rows(grad, cu_seqlens, ctx.tokens, ctx.reduce == Reduce.MEAN, ctx.backend)
    return back, None, None, None


reduce_rows.register_autograd(_backward, setup_context=_remember)
