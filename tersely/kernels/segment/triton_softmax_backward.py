# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""Gradients of softmax-weighted sums over segments in Triton: one read of the values, both gradients in one pass.

With the share ``p = exp(w - lse)`` of a token and the gradient ``g`` of its segment's sum ``s``: the value's gradient is
``p * g``, the weight's ``p * sum(g * (v - s))`` over the channels of the head.

Legend: ``T`` packed tokens, ``N`` segments, ``H`` heads of ``D`` channels, ``C = H * D``.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block, row_block
from tersely.kernels.segment.parts import part_of

SPLIT = 16
"""Small, because a program goes through all channels of a head for its tokens."""


def softmax_pooled_backward(
    grad: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seqlens: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of values ``(T, C)`` and weights ``(T, H)``; zeros in slack rows."""
    (tokens, columns), heads, segments = values.shape, weights.shape[1], len(cu_seqlens) - 1
    grad_values = values.new_empty(tokens, columns)
    grad_weights = torch.empty_like(weights, memory_format=torch.contiguous_format)
    if not grad_values.numel() or not segments:
        return grad_values.zero_(), grad_weights.zero_()
    chunks = triton.cdiv(tokens, SPLIT)
    width = columns // heads
    block = column_block(width)
    _pool_backward[((2 * chunks + segments) * heads,)](
        grad, values, weights, out, lse, cu_seqlens, grad_values, grad_weights, segments, tokens, heads, width,
        grad.stride(0), values.stride(0), weights.stride(0), weights.stride(1), chunks,
        SPLIT, row_block(block, most=SPLIT), block,
    )  # fmt: skip
    return grad_values, grad_weights


@triton.jit(do_not_specialize=["segments", "tokens", "heads", "chunks"])
def _pool_backward(
    grad, values, weights, out, lse, cu_seqlens, grad_values, grad_weights, segments, tokens, heads, width,
    grad_stride, stride, weight_stride, head_stride, chunks,
    SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0) // heads
    head = tl.program_id(0) % heads
    segment, low, high, there = part_of(cu_seqlens, segments, tokens, part, chunks, SPLIT)
    if there & (low < high):
        norm = tl.load(lse + segment * heads + head)
        for row in range(low, high, ROWS):
            rows = row + tl.arange(0, ROWS)
            real = rows < high
            score_at = weights + rows * weight_stride + head * head_stride
            score = tl.load(score_at, mask=real, other=float("-inf")).to(tl.float32)
            share = tl.where(norm == float("-inf"), 0.0, tl.exp(score - norm))
            inner = tl.zeros((ROWS, BLOCK), tl.float32)
            for start in range(0, width, BLOCK):
                places = start + tl.arange(0, BLOCK)
                inside = places < width
                places += head * width
                mask = real[:, None] & inside[None, :]
                slope = tl.load(grad + segment * grad_stride + places, mask=inside, other=0).to(tl.float32)
                mean = tl.load(out + segment * heads * width + places, mask=inside, other=0).to(tl.float32)
                tile = tl.load(values + rows[:, None] * stride + places[None, :], mask=mask, other=0)
                inner += slope[None, :] * (tile.to(tl.float32) - mean[None, :])
                grad_at = grad_values + rows[:, None] * heads * width + places[None, :]
                tl.store(grad_at, share[:, None] * slope[None, :], mask=mask)
            tl.store(grad_weights + rows * heads + head, share * tl.sum(inner, 1), mask=real)
    if (part < 2 * chunks) & (part % 2 == 0):
        first = (part // 2).to(tl.int64) * SPLIT
        end = tl.minimum(first + SPLIT, tokens)
        for row in range(tl.maximum(first, tl.load(cu_seqlens + segments).to(tl.int64)), end):
            tl.store(grad_weights + row * heads + head, 0.0)
            for start in range(0, width, BLOCK):
                places = start + tl.arange(0, BLOCK)
                inside = places < width
                tl.store(grad_values + (row * heads + head) * width + places, 0.0, mask=inside)
