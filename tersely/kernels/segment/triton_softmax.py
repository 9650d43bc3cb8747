# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""Softmax-weighted sums over segments in Triton: one read of the values, the softmax kept up as it goes.

Each row of a tile has its own running maximum, so nothing crosses lanes before the end of a part.

Legend: ``T`` packed tokens, ``N`` segments, ``H`` heads of ``D`` channels, ``C = H * D``.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block, row_block
from tersely.kernels.segment.parts import long_segment_from, part_number, part_of

SPLIT = 128


def softmax_pooled(
    values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sums ``(N, C)`` of values ``(T, C)`` and the log-sum-exp ``(N, H)`` of weights ``(T, H)``."""
    (tokens, columns), heads, segments = values.shape, weights.shape[1], len(cu_seqlens) - 1
    out = values.new_empty(segments, columns)
    lse = values.new_empty(segments, heads, dtype=torch.float32)
    if not out.numel():
        return out, lse.fill_(-torch.inf)
    chunks = triton.cdiv(tokens, SPLIT)
    partial = values.new_empty(2 * chunks, columns, dtype=torch.float32)
    partial_norms = values.new_empty(2 * chunks, 2 * heads, dtype=torch.float32)
    width = columns // heads
    results = (out, lse, partial, partial_norms)
    block = column_block(width)
    blocks = triton.cdiv(width, block)
    _pool[((2 * chunks + segments) * heads * blocks,)](
        values, weights, cu_seqlens, *results, segments, tokens, heads, width,
        values.stride(0), weights.stride(0), weights.stride(1), blocks, chunks, SPLIT, row_block(block), block,
    )  # fmt: skip
    if tokens > SPLIT:
        block = column_block(width, 64)
        blocks = triton.cdiv(width, block)
        _join_pools[(chunks * heads * blocks,)](
            cu_seqlens, *results, segments, tokens, heads, width, blocks, SPLIT, row_block(block), block
        )
    return out, lse


@triton.jit
def _scale(old, new):
    """What turns sums taken at the maximum ``old`` into sums at ``new``; 1 while there is no maximum yet."""
    return tl.where(new == float("-inf"), 1.0, tl.exp(old - new))


@triton.jit
def _joined(sums, total, top):
    """Sums, totals and the maximum of a tile, from those of its rows."""
    peak = tl.max(top, 0)
    scale = _scale(top, peak)
    return tl.sum(sums * scale[:, None], 0), tl.sum(total * scale, 0), peak


@triton.jit
def _finish(out, lse, sums, total, peak, offsets, inside, norm_at):
    tl.store(out + offsets, sums / tl.where(total > 0, total, 1.0), mask=inside)
    tl.store(lse + norm_at, tl.where(total > 0, peak + tl.log(total), float("-inf")))


@triton.jit(do_not_specialize=["segments", "tokens", "heads", "blocks", "chunks"])
def _pool(
    values, weights, cu_seqlens, out, lse, partial, partial_norms, segments, tokens, heads, width,
    stride, weight_stride, head_stride, blocks, chunks,
    SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0) // (heads * blocks)
    head = tl.program_id(0) // blocks % heads
    segment, low, high, there = part_of(cu_seqlens, segments, tokens, part, chunks, SPLIT)
    if there:
        places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
        inside = places < width
        places += head * width
        sums = tl.zeros((ROWS, BLOCK), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        top = tl.full((ROWS,), float("-inf"), tl.float32)
        for row in range(low, high, ROWS):
            rows = row + tl.arange(0, ROWS)
            score_at = weights + rows * weight_stride + head * head_stride
            score = tl.load(score_at, mask=rows < high, other=float("-inf")).to(tl.float32)
            mask = (rows < high)[:, None] & inside[None, :]
            tile = tl.load(values + rows[:, None] * stride + places[None, :], mask=mask, other=0)
            raised = tl.maximum(top, score)
            scale = _scale(top, raised)
            share = tl.where(score == float("-inf"), 0.0, tl.exp(score - raised))
            sums = sums * scale[:, None] + share[:, None] * tile.to(tl.float32)
            total = total * scale + share
            top = raised
        sum_, total_, peak = _joined(sums, total, top)
        if part < 2 * chunks:
            number = part.to(tl.int64)
            tl.store(partial + number * heads * width + places, sum_, mask=inside)
            tl.store(partial_norms + (number * heads + head) * 2, total_)
            tl.store(partial_norms + (number * heads + head) * 2 + 1, peak)
        else:
            offsets = segment * heads * width + places
            _finish(out, lse, sum_, total_, peak, offsets, inside, segment * heads + head)


@triton.jit(do_not_specialize=["segments", "tokens", "heads", "blocks"])
def _join_pools(
    cu_seqlens, out, lse, partial, partial_norms, segments, tokens, heads, width, blocks,
    SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0) // (heads * blocks)
    head = tl.program_id(0) // blocks % heads
    segment, first, parts, _, there = long_segment_from(cu_seqlens, segments, tokens, chunk, SPLIT)
    if there:
        places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
        inside = places < width
        places += head * width
        sums = tl.zeros((ROWS, BLOCK), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        top = tl.full((ROWS,), float("-inf"), tl.float32)
        for start in range(0, parts, ROWS):
            index = start + tl.arange(0, ROWS)
            number = part_number(chunk, first, index)
            norm_at = partial_norms + (number * heads + head) * 2
            more = tl.load(norm_at, mask=index < parts, other=0)
            peak_of = tl.load(norm_at + 1, mask=index < parts, other=float("-inf"))
            mask = (index < parts)[:, None] & inside[None, :]
            tile = tl.load(partial + number[:, None] * heads * width + places[None, :], mask=mask, other=0)
            raised = tl.maximum(top, peak_of)
            scale, scale_more = _scale(top, raised), _scale(peak_of, raised)
            sums = sums * scale[:, None] + tile * scale_more[:, None]
            total = total * scale + more * scale_more
            top = raised
        sum_, total_, peak = _joined(sums, total, top)
        offsets = segment * heads * width + places
        _finish(out, lse, sum_, total_, peak, offsets, inside, segment * heads + head)
