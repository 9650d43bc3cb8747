# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""Maxima over segments in Triton, and the first row that has each: parts as in sums, NaN wins as in torch.

Legend: ``T`` packed tokens, ``N`` segments, ``C`` columns.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block, row_block
from tersely.kernels.segment.parts import long_segment_from, part_number, part_of

SPLIT = 128


def segment_maxima(values: torch.Tensor, cu_seqlens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maxima ``(N, C)`` of values ``(T, C)``, and their rows in ``values``, int32; 0 and -1 for empty segments."""
    (tokens, columns), segments = values.shape, len(cu_seqlens) - 1
    out = values.new_empty(segments, columns)
    best_rows = values.new_empty(segments, columns, dtype=torch.int32)
    if not out.numel():
        return out, best_rows
    chunks = triton.cdiv(tokens, SPLIT)
    partial = values.new_empty(2 * chunks, columns)
    partial_rows = values.new_empty(2 * chunks, columns, dtype=torch.int32)
    block = column_block(columns)
    blocks = triton.cdiv(columns, block)
    shape = (segments, tokens, columns)
    results = (out, best_rows, partial, partial_rows)
    _maxima[((2 * chunks + segments) * blocks,)](
        values, cu_seqlens, *results, *shape, values.stride(0), blocks, chunks, SPLIT, row_block(block), block
    )
    if tokens > SPLIT:
        block = column_block(columns, 64)
        blocks = triton.cdiv(columns, block)
        _join_maxima[(chunks * blocks,)](cu_seqlens, *results, *shape, blocks, SPLIT, row_block(block), block)
    return out, best_rows


@triton.jit
def _better(value, row, other, other_row):
    """The larger value, NaN above all; of equals the one in the earlier row."""
    nan, other_nan = value != value, other != other
    equal = (value == other) | (nan & other_nan)
    takes = (other > value) & (nan == 0) | other_nan & (nan == 0) | equal & (other_row < row)
    return tl.where(takes, other, value), tl.where(takes, other_row, row)


@triton.jit
def _best(values, rows):
    """The best of each column of a tile and its row, as ``_better`` has it."""
    nan = values != values
    top = tl.max(tl.where(nan, float("-inf"), values), 0)
    broken = tl.max(nan.to(tl.int32), 0) > 0
    equal = tl.where(broken[None, :], nan, values == top[None, :])
    return tl.where(broken, float("nan"), top), tl.min(tl.where(equal, rows, 2147483647), 0)


@triton.jit(do_not_specialize=["segments", "tokens", "blocks", "chunks"])
def _maxima(
    values, cu_seqlens, out, best_rows, partial, partial_rows, segments, tokens, columns, stride, blocks, chunks,
    SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0) // blocks
    segment, low, high, there = part_of(cu_seqlens, segments, tokens, part, chunks, SPLIT)
    if there:
        places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
        inside = places < columns
        best = tl.full((ROWS, BLOCK), float("-inf"), tl.float32)
        where = tl.zeros((ROWS, BLOCK), tl.int32) + low.to(tl.int32)
        for row in range(low, high, ROWS):
            rows = row + tl.arange(0, ROWS)
            mask = (rows < high)[:, None] & inside[None, :]
            tile = tl.load(values + rows[:, None] * stride + places[None, :], mask=mask, other=float("-inf"))
            tile = tile.to(tl.float32)
            takes = (tile > best) | (tile != tile) & (best == best)
            best = tl.where(takes, tile, best)
            where = tl.where(takes, rows[:, None].to(tl.int32), where)
        top, where_top = _best(best, where)
        if part < 2 * chunks:
            offsets = part.to(tl.int64) * columns + places
            tl.store(partial + offsets, top, mask=inside)
            tl.store(partial_rows + offsets, where_top, mask=inside)
        else:
            offsets = segment * columns + places
            tl.store(out + offsets, tl.where(low < high, top, 0), mask=inside)
            tl.store(best_rows + offsets, tl.where(low < high, where_top, -1), mask=inside)


@triton.jit(do_not_specialize=["segments", "tokens", "blocks"])
def _join_maxima(
    cu_seqlens, out, best_rows, partial, partial_rows, segments, tokens, columns, blocks,
    SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0) // blocks
    segment, first, parts, _, there = long_segment_from(cu_seqlens, segments, tokens, chunk, SPLIT)
    if there:
        places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
        inside = places < columns
        best = tl.full((ROWS, BLOCK), float("-inf"), tl.float32)
        where = tl.full((ROWS, BLOCK), 2147483647, tl.int32)
        for start in range(0, parts, ROWS):
            index = start + tl.arange(0, ROWS)
            mask = (index < parts)[:, None] & inside[None, :]
            offsets = part_number(chunk, first, index)[:, None] * columns + places[None, :]
            tile = tl.load(partial + offsets, mask=mask, other=float("-inf")).to(tl.float32)
            rows = tl.load(partial_rows + offsets, mask=mask, other=2147483647)
            best, where = _better(best, where, tile, rows)
        top, where_top = _best(best, where)
        tl.store(out + segment * columns + places, top, mask=inside)
        tl.store(best_rows + segment * columns + places, where_top, mask=inside)
