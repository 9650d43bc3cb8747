"""segment_expand: one value for each segment, to all of its tokens.

Legend: ``T`` packed tokens, ``N`` segments, ``C`` channels.
"""

from __future__ import annotations

from typing import Any

import torch

from tersely.errors import KernelError
from tersely.kernels.backend import Backend, runs_triton
from tersely.kernels.checks import check_cu_seqlens, check_floats
from tersely.kernels.operator import operator
from tersely.kernels.rows import as_rows
from tersely.kernels.segment import reference


def segment_expand(
    values: torch.Tensor, cu_seqlens: torch.Tensor, tokens: int, *, backend: Backend | str = "auto"
) -> torch.Tensor:
    """The value of each token's segment: the broadcast that undoes ``segment_reduce``.

    Never waits for the device. Deterministic; the gradient of ``values`` is the sum over each segment, in float32.

    Args:
        values: ``(N, C...)``, float16, bfloat16, float32 or float64.
        cu_seqlens: ``(N + 1,)``, int32 or int64: ``cu_seqlens[0] == 0``, non-decreasing, at most ``tokens``.
        tokens: ``T``, rows of the result.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Returns:
        ``(T, C...)`` of the dtype of ``values``; zeros in the slack rows past ``cu_seqlens[-1]``.

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or Triton was named and cannot run.
    """
    check_floats("values", values)
    check_cu_seqlens(cu_seqlens, values)
    if len(values) != len(cu_seqlens) - 1:
        raise KernelError(
            f"values has {len(values)} rows, cu_seqlens bounds {len(cu_seqlens) - 1} segments: give one row each"
        )
    if tokens < 0:
        raise KernelError(f"tokens is {tokens}: give the number of rows of the result")
    rows = expand_rows(
        values.flatten(1) if values.ndim > 1 else values[:, None], cu_seqlens, tokens, False, backend
    )
    return rows.reshape(tokens, *values.shape[1:])


@operator("segment_expand")
def expand_rows(
    values: torch.Tensor, cu_seqlens: torch.Tensor, tokens: int, mean: bool, backend: str
) -> torch.Tensor:
    """Rows ``(T, C)`` of values ``(N, C)``, divided by the lengths of the segments if ``mean``."""
    if runs_triton(backend, values):
        from tersely.kernels.segment.triton_expand import expanded

        return expanded(as_rows(values), cu_seqlens, tokens, mean)
    return reference.expand(values, cu_seqlens, tokens, mean)


@expand_rows.register_fake
def _(values: torch.Tensor, cu_seqlens: torch.Tensor, tokens: int, mean: bool, backend: str) -> torch.Tensor:
    return values.new_empty(tokens, values.shape[1])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, cu_seqlens, _, ctx.mean, ctx.backend = inputs
    ctx.save_for_backward(cu_seqlens)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    from tersely.kernels.segment.reduce import reduce_rows

    (cu_seqlens,) = ctx.saved_tensors
    sums, _ = reduce_rows(grad, cu_seqlens, "mean" if ctx.mean else "sum", ctx.backend)
    return sums, None, None, None, None


expand_rows.register_autograd(_backward, setup_context=_remember)
