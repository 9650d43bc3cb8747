# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""Softmax-weighted sums over segments in Triton: one read of the values, the softmax kept up as it goes.

The walk of the sums, with a running maximum of the weights: each row scales what was added so far to it.

Legend: ``T`` packed tokens, ``N`` segments, ``H`` heads of ``D`` channels, ``C = H * D``.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.segment.chunks import (
    ROWS,
    SHARED,
    chunk_bounds,
    chunks_of,
    crossing,
    open_part,
    part_number,
    rows_ahead,
    stop_of,
)


def softmax_pooled(
    values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sums ``(N, C)`` of values ``(T, C)`` and the log-sum-exp ``(N, H)`` of weights ``(T, H)``."""
    (tokens, columns), heads, segments = values.shape, weights.shape[1], len(cu_seqlens) - 1
    out = values.new_empty(segments, columns)
    lse = values.new_empty(segments, heads, dtype=torch.float32)
    if not out.numel():
        return out, lse.fill_(-torch.inf)
    width = columns // heads
    chunks = chunks_of(tokens, width)
    partial = values.new_empty(2 * chunks.number, columns, dtype=torch.float32)
    partial_norms = values.new_empty(2 * chunks.number, 2 * heads, dtype=torch.float32)
    crossings = cu_seqlens.new_empty(chunks.number, 4, dtype=torch.int64)
    results = (out, lse, partial, partial_norms, crossings)
    _pool[(chunks.number * heads * chunks.blocks,)](
        values, weights, cu_seqlens, *results, segments, tokens, heads, width,
        values.stride(0), weights.stride(0), weights.stride(1), chunks.number, chunks.blocks,
        chunks.split, ROWS, chunks.block, num_warps=1,
    )  # fmt: skip
    if chunks.number > 1:
        _join_pools[((chunks.number - 1) * heads * SHARED,)](*results, heads, width, chunks.split, SHARED)
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


@triton.jit(do_not_specialize=["segments", "tokens", "heads", "chunks", "blocks"])
def _pool(
    values, weights, cu_seqlens, out, lse, partial, partial_norms, crossings, segments, tokens, heads, width,
    stride, weight_stride, head_stride, chunks, blocks,
    SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = (tl.program_id(0) // (heads * blocks)).to(tl.int64)
    head = tl.program_id(0) // blocks % heads
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = places < width
    out += head * width
    values += head * width
    partial += head * width
    weights += head * head_stride
    first = chunk * SPLIT
    ahead = rows_ahead(values, first, tokens, stride, places, inside, 0, ROWS)
    scores = rows_ahead(weights, first, tokens, weight_stride, 0, True, 0, ROWS)
    end, low, own, limit = chunk_bounds(cu_seqlens, segments, tokens, chunk, chunks, SPLIT)
    own, stop = _zero_empty(
        out, lse, cu_seqlens, own, segments, limit, first, head, heads, width, places, inside
    )
    sums = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((), tl.float32)
    top = tl.full((), float("-inf"), tl.float32)
    for row in range(first, end, ROWS):
        rows, row_scores = ahead, scores
        ahead = rows_ahead(values, row + ROWS, end, stride, places, inside, 0, ROWS)
        scores = rows_ahead(weights, row + ROWS, end, weight_stride, 0, True, 0, ROWS)
        for i in tl.static_range(ROWS):
            score = row_scores[i].to(tl.float32)
            raised = tl.maximum(top, score)
            scale = _scale(top, raised)
            share = tl.where(score == float("-inf"), 0.0, tl.exp(score - raised))
            sums = sums * scale + rows[i].to(tl.float32) * share
            total = total * scale + share
            top = raised
            if row + i + 1 == stop:
                if own < low:
                    _store_part(
                        partial,
                        partial_norms,
                        2 * chunk,
                        sums,
                        total,
                        top,
                        head,
                        heads,
                        width,
                        places,
                        inside,
                    )
                else:
                    _finish(
                        out, lse, sums, total, top, own * heads * width + places, inside, own * heads + head
                    )
                own, stop = _zero_empty(
                    out, lse, cu_seqlens, own + 1, segments, limit, stop, head, heads, width, places, inside
                )
                sums = tl.zeros((BLOCK,), tl.float32)
                total = tl.zeros((), tl.float32)
                top = tl.full((), float("-inf"), tl.float32)
    part = open_part(cu_seqlens, crossings, chunk, own, low, stop, end, SPLIT)
    if part >= 0:
        _store_part(partial, partial_norms, part, sums, total, top, head, heads, width, places, inside)


@triton.jit
def _store_part(partial, partial_norms, part, sums, total, top, head, heads, width, places, inside):
    tl.store(partial + part * heads * width + places, sums, mask=inside)
    tl.store(partial_norms + (part * heads + head) * 2, total)
    tl.store(partial_norms + (part * heads + head) * 2 + 1, top)


@triton.jit
def _zero_empty(out, lse, cu_seqlens, own, segments, limit, token, head, heads, width, places, inside):
    """Writes 0 and -inf for the segments that start and stop at ``token``; the next one, and where it stops."""
    stop = stop_of(cu_seqlens, own, segments)
    while (stop == token) & (token < limit):
        nothing = tl.zeros(places.shape, out.dtype.element_ty)
        tl.store(out + own * heads * width + places, nothing, mask=inside)
        tl.store(lse + own * heads + head, float("-inf"))
        own += 1
        stop = stop_of(cu_seqlens, own, segments)
    return own, stop


@triton.jit(do_not_specialize=["heads"])
def _join_pools(
    out, lse, partial, partial_norms, crossings, heads, width, SPLIT: tl.constexpr, SHARED: tl.constexpr
):  # fmt: skip
    head = tl.program_id(0) // SHARED % heads
    number = tl.program_id(0) // (SHARED * heads)
    segment, _, chunk, first, parts, rank = crossing(crossings, number, SPLIT)
    share = rank * SHARED + tl.program_id(0) % SHARED
    shares = (parts - 1) * SHARED
    if parts > 8:
        _join_parts(
            out,
            lse,
            partial,
            partial_norms,
            segment,
            chunk,
            first,
            parts,
            share,
            shares,
            head,
            heads,
            width,
            128,
            32,
        )
    elif parts > 0:
        _join_parts(
            out,
            lse,
            partial,
            partial_norms,
            segment,
            chunk,
            first,
            parts,
            share,
            shares,
            head,
            heads,
            width,
            8,
            256,
        )


@triton.jit
def _join_parts(
    out, lse, partial, partial_norms, segment, chunk, first, parts, share, shares, head, heads, width,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Every ``shares``-th block of columns of one head and segment."""
    for block in range(share * BLOCK, width, shares * BLOCK):
        places = block + tl.arange(0, BLOCK)
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
        _finish(
            out, lse, sum_, total_, peak, segment * heads * width + places, inside, segment * heads + head
        )
