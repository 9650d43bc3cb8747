# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""Gradients of exponential smoothing in Triton: each chunk walked from the right, in float32.

``sums[t] = grad[t] + (1 - w[t + 1]) * sums[t + 1]`` inside each document; a row of values gets ``w[t] * sums[t]``, a weight
the sum over columns of ``sums[t] * (values[t] - out[t - 1])``.

Legend: ``T`` packed tokens, ``N`` documents, ``C`` columns.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block
from tersely.kernels.segment.parts import segment_at
from tersely.kernels.smooth.walk import COLUMNS, SPLIT, end_of, rows_at, start_before, states_of, weights_at

ROWS = 4
"""Rows of each of the three tensors on their way together."""


def smoothed_backward(
    grad: torch.Tensor, values: torch.Tensor, weights: torch.Tensor, out: torch.Tensor, cu_seqlens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Gradients of values ``(T, C)`` and weights ``(T,)``, of their dtypes; zeros in slack rows."""
    tokens, columns = values.shape
    grad_values = values.new_empty(tokens, columns)
    if not values.numel() or len(cu_seqlens) == 1:
        return grad_values.zero_(), torch.zeros_like(weights)
    states = states_of(grad, weights, cu_seqlens, reverse=True)
    block = column_block(columns, COLUMNS)
    blocks = triton.cdiv(columns, block)
    shares = values.new_empty(blocks, tokens, dtype=torch.float32)
    _smooth_backward[(len(states) * blocks,)](
        grad, values, weights, out, cu_seqlens, states, grad_values, shares, len(cu_seqlens) - 1, tokens, columns,
        grad.stride(0), values.stride(0), out.stride(0), blocks, SPLIT, ROWS, block, num_warps=1,
    )  # fmt: skip
    return grad_values, shares.sum(0).to(weights.dtype)


@triton.jit(do_not_specialize=["segments", "tokens", "blocks"])
def _smooth_backward(
    grad, values, weights, out, cu_seqlens, states, grad_values, shares, segments, tokens, columns,
    grad_stride, values_stride, out_stride, blocks, SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = (tl.program_id(0) // blocks).to(tl.int64)
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    first = chunk * SPLIT
    end = end_of(cu_seqlens, segments, tokens, first, SPLIT)
    own, start = start_before(cu_seqlens, segment_at(cu_seqlens, segments, tl.maximum(end - 1, 0)), end)
    shares += tl.program_id(0).to(tl.int64) % blocks * tokens
    state = tl.load(states + chunk * columns + places, mask=inside, other=0)
    steps = tl.cdiv(tl.minimum(SPLIT, tokens - first), ROWS)
    for step in range(steps):
        row = first + (steps - 1 - step) * ROWS
        grads = rows_at(grad, row, 0, end, grad_stride, places, inside, ROWS)
        rows = rows_at(values, row, 0, end, values_stride, places, inside, ROWS)
        before = rows_at(out, row, 1, end, out_stride, places, inside, ROWS)
        own_weights = weights_at(weights, row, end, ROWS)
        for i in tl.static_range(ROWS):
            token = row + (ROWS - 1 - i)
            weight = own_weights[ROWS - 1 - i]
            sums = grads[ROWS - 1 - i] + state
            moved = rows[ROWS - 1 - i]
            state = (1 - weight) * sums
            if token == start:
                state = tl.zeros((BLOCK,), tl.float32)
                own, start = start_before(cu_seqlens, own, start)
            else:
                moved -= before[ROWS - 1 - i]
            there = token < tokens
            tl.store(grad_values + token * columns + places, weight * sums, mask=inside & there)
            tl.store(shares + token, tl.sum(sums * moved, 0), mask=there)
