# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""Exponential smoothing in Triton: each chunk walked from its state, in float32.

Legend: ``T`` packed tokens, ``N`` documents, ``C`` columns.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block
from tersely.kernels.segment.parts import segment_at
from tersely.kernels.smooth.walk import (
    COLUMNS,
    ROWS,
    SPLIT,
    end_of,
    rows_at,
    start_from,
    states_of,
    weights_at,
)


def smoothed(values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    """``(T, C)``, of the dtype of ``values`` ``(T, C)``; zeros in slack rows."""
    tokens, columns = values.shape
    out = values.new_empty(tokens, columns)
    if not out.numel() or len(cu_seqlens) == 1:
        return out.zero_()
    states = states_of(values, weights, cu_seqlens, reverse=False)
    block = column_block(columns, COLUMNS)
    blocks = triton.cdiv(columns, block)
    _smooth[(len(states) * blocks,)](
        values, weights, cu_seqlens, states, out, len(cu_seqlens) - 1, tokens, columns, values.stride(0), blocks,
        SPLIT, ROWS, block, num_warps=1,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["segments", "tokens", "blocks"])
def _smooth(
    values, weights, cu_seqlens, states, out, segments, tokens, columns, stride, blocks,
    SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = (tl.program_id(0) // blocks).to(tl.int64)
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    first = chunk * SPLIT
    end = end_of(cu_seqlens, segments, tokens, first, SPLIT)
    own, start = start_from(cu_seqlens, segment_at(cu_seqlens, segments, first), segments, first)
    state = tl.load(states + chunk * columns + places, mask=inside, other=0)
    for row in range(first, tl.minimum(first + SPLIT, tokens), ROWS):
        rows = rows_at(values, row, 0, end, stride, places, inside, ROWS)
        own_weights = weights_at(weights, row, end, ROWS)
        for i in tl.static_range(ROWS):
            if row + i == start:
                state = tl.zeros((BLOCK,), tl.float32)
                own, start = start_from(cu_seqlens, own, segments, start + 1)
            state = own_weights[i] * rows[i] + (1 - own_weights[i]) * state
            shown = tl.where(row + i < end, state, 0.0)
            tl.store(out + (row + i) * columns + places, shown, mask=inside & (row + i < tokens))
