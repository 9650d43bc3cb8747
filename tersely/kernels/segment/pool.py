"""The operator of softmax-weighted sums over segments, forward and backward.

Legend: ``T`` packed tokens, ``N`` segments, ``H`` heads of ``D`` channels, ``C = H * D``.
"""

from __future__ import annotations

from typing import Any

import torch

from tersely.kernels.backend import runs_triton
from tersely.kernels.operator import operator
from tersely.kernels.rows import as_rows
from tersely.kernels.segment import reference


@operator("segment_softmax")
def softmax_pool(
    values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values ``(T, C)`` with weights ``(T, H)`` to sums ``(N, C)`` and the log-sum-exp ``(N, H)``."""
    if runs_triton(backend, values):
        from tersely.kernels.segment.triton_softmax import softmax_pooled

        return softmax_pooled(as_rows(values), weights, cu_seqlens)
    return reference.softmax_pool(values, weights, cu_seqlens)


@softmax_pool.register_fake
def _(
    values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    segments = len(cu_seqlens) - 1
    lse = values.new_empty(segments, weights.shape[1], dtype=reference.accumulator(values))
    return values.new_empty(segments, values.shape[1]), lse


@operator("segment_softmax_backward")
def softmax_pool_backward(
    grad: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seqlens: torch.Tensor,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of values ``(T, C)`` and weights ``(T, H)``."""
    if runs_triton(backend, values):
        from tersely.kernels.segment.triton_softmax_backward import softmax_pooled_backward

        return softmax_pooled_backward(as_rows(grad), as_rows(values), weights, out, lse, cu_seqlens)
    return reference.softmax_pool_backward(grad, values, weights, out, lse, cu_seqlens)


@softmax_pool_backward.register_fake
def _(
    grad: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seqlens: torch.Tensor,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    return values.new_empty(values.shape), weights.new_empty(weights.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    values, weights, cu_seqlens, ctx.backend = inputs
    ctx.save_for_backward(values, weights, *output, cu_seqlens)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: torch.Tensor, _: Any) -> tuple[Any, ...]:
    return *softmax_pool_backward(grad, *ctx.saved_tensors, ctx.backend), None, None


softmax_pool.register_autograd(_backward, setup_context=_remember)
