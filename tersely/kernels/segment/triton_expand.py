# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""One value for each segment to all its tokens, in Triton: reads a row once for each part and stores it on.

Legend: ``T`` packed tokens, ``N`` segments, ``C`` columns.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block, row_block
from tersely.kernels.segment.parts import bounds_of, part_of

SPLIT = 64


def expanded(
    values: torch.Tensor,
    cu_seqlens: torch.Tensor,
    tokens: int,
    mean: bool = False,
    only_rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Rows ``(T, C)`` of values ``(N, C)``; zeros in slack rows.

    ``mean`` divides by the segment's length. ``only_rows`` ``(N, C)``, int32, keeps each value in that one row of its
    segment and leaves zeros in the others: the gradient of maxima.
    """
    segments, columns = values.shape
    out = values.new_empty(tokens, columns)
    if not out.numel() or not segments:
        return out.zero_()
    chunks = triton.cdiv(tokens, SPLIT)
    block = column_block(columns)
    blocks = triton.cdiv(columns, block)
    _expand[((2 * chunks + segments) * blocks,)](
        values, cu_seqlens, out, only_rows, segments, tokens, columns, values.stride(0), blocks, chunks,
        mean, only_rows is not None, SPLIT, row_block(block), block,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["segments", "tokens", "blocks", "chunks"])
def _expand(
    values, cu_seqlens, out, only_rows, segments, tokens, columns, stride, blocks, chunks,
    MEAN: tl.constexpr, SELECT: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0) // blocks
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    segment, low, high, there = part_of(cu_seqlens, segments, tokens, part, chunks, SPLIT)
    if there & (low < high):
        value = tl.load(values + segment * stride + places, mask=inside, other=0)
        if MEAN:
            start, end = bounds_of(cu_seqlens, segment, tokens)
            value = (value.to(tl.float32) / (end - start).to(tl.float32)).to(value.dtype)
        tile = tl.broadcast_to(value[None, :], (ROWS, BLOCK))
        if SELECT:
            chosen = tl.load(only_rows + segment * columns + places, mask=inside, other=-1)
        for row in range(low, high, ROWS):
            rows = row + tl.arange(0, ROWS)
            mask = (rows < high)[:, None] & inside[None, :]
            shown = tl.where(chosen[None, :] == rows[:, None], tile, 0.0) if SELECT else tile
            tl.store(out + rows[:, None] * columns + places[None, :], shown.to(value.dtype), mask=mask)
    if (part < 2 * chunks) & (part % 2 == 0):
        first = (part // 2).to(tl.int64) * SPLIT
        end = tl.minimum(first + SPLIT, tokens)
        slack = tl.maximum(first, tl.load(cu_seqlens + segments).to(tl.int64))
        nothing = tl.zeros((ROWS, BLOCK), out.dtype.element_ty)
        for row in range(slack, end, ROWS):
            rows = row + tl.arange(0, ROWS)
            mask = (rows < end)[:, None] & inside[None, :]
            tl.store(out + rows[:, None] * columns + places[None, :], nothing, mask=mask)
