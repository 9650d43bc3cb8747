# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""Sums and means over segments in Triton: each part is added up in float32, the parts of long segments once more.

Legend: ``T`` packed tokens, ``N`` segments, ``C`` columns.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block, row_block
from tersely.kernels.segment.parts import long_segment_from, part_number, part_of

SPLIT = 128
"""Tokens of a chunk. Parts of long segments cost 8 bytes for SPLIT * 2 of bf16: 3 % of the traffic."""


def segment_sums(values: torch.Tensor, cu_seqlens: torch.Tensor, mean: bool) -> torch.Tensor:
    """Sums or means ``(N, C)``, of the dtype of ``values`` ``(T, C)``."""
    (tokens, columns), segments = values.shape, len(cu_seqlens) - 1
    out = values.new_empty(segments, columns)
    if not out.numel():
        return out
    chunks = triton.cdiv(tokens, SPLIT)
    partial = values.new_empty(2 * chunks, columns, dtype=torch.float32)
    block = column_block(columns)
    blocks = triton.cdiv(columns, block)
    shape = (segments, tokens, columns)
    _sums[((2 * chunks + segments) * blocks,)](
        values, cu_seqlens, out, partial, *shape, values.stride(0), blocks, chunks, mean, SPLIT, row_block(block), block
    )  # fmt: skip
    if tokens > SPLIT:
        block = column_block(columns, 64)
        blocks = triton.cdiv(columns, block)
        _join_sums[(chunks * blocks,)](
            cu_seqlens, out, partial, *shape, blocks, mean, SPLIT, row_block(block), block
        )
    return out


@triton.jit(do_not_specialize=["segments", "tokens", "blocks", "chunks"])
def _sums(
    values, cu_seqlens, out, partial, segments, tokens, columns, stride, blocks, chunks,
    MEAN: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0) // blocks
    segment, low, high, there = part_of(cu_seqlens, segments, tokens, part, chunks, SPLIT)
    if there:
        places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
        inside = places < columns
        sums = tl.zeros((ROWS, BLOCK), tl.float32)
        for row in range(low, high, ROWS):
            rows = row + tl.arange(0, ROWS)
            mask = (rows < high)[:, None] & inside[None, :]
            tile = tl.load(values + rows[:, None] * stride + places[None, :], mask=mask, other=0)
            sums += tile.to(tl.float32)
        total = tl.sum(sums, 0)
        if part < 2 * chunks:
            tl.store(partial + part.to(tl.int64) * columns + places, total, mask=inside)
        else:
            if MEAN:
                total /= tl.maximum(high - low, 1).to(tl.float32)
            tl.store(out + segment * columns + places, total, mask=inside)


@triton.jit(do_not_specialize=["segments", "tokens", "blocks"])
def _join_sums(
    cu_seqlens, out, partial, segments, tokens, columns, blocks,
    MEAN: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0) // blocks
    segment, first, parts, length, there = long_segment_from(cu_seqlens, segments, tokens, chunk, SPLIT)
    if there:
        places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
        inside = places < columns
        sums = tl.zeros((ROWS, BLOCK), tl.float32)
        for start in range(0, parts, ROWS):
            index = start + tl.arange(0, ROWS)
            mask = (index < parts)[:, None] & inside[None, :]
            numbers = part_number(chunk, first, index)
            sums += tl.load(partial + numbers[:, None] * columns + places[None, :], mask=mask, other=0)
        total = tl.sum(sums, 0)
        if MEAN:
            total /= length.to(tl.float32)
        tl.store(out + segment * columns + places, total, mask=inside)
