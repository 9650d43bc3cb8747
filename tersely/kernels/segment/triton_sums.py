# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""Sums and means over segments in Triton, in float32: a running sum along each chunk, parts added in a second launch.

Legend: ``T`` packed tokens, ``N`` segments, ``C`` columns.
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


def segment_sums(values: torch.Tensor, cu_seqlens: torch.Tensor, mean: bool) -> torch.Tensor:
    """Sums or means ``(N, C)``, of the dtype of ``values`` ``(T, C)``."""
    (tokens, columns), segments = values.shape, len(cu_seqlens) - 1
    out = values.new_empty(segments, columns)
    if not out.numel():
        return out
    chunks = chunks_of(tokens, columns)
    partial = values.new_empty(2 * chunks.number, columns, dtype=torch.float32)
    crossings = cu_seqlens.new_empty(chunks.number, 4, dtype=torch.int64)
    _sums[(chunks.number * chunks.blocks,)](
        values, cu_seqlens, out, partial, crossings, segments, tokens, columns, values.stride(0), chunks.number, chunks.blocks,
        mean, chunks.split, ROWS, chunks.block, num_warps=1,
    )  # fmt: skip
    if chunks.number > 1:
        _join_sums[((chunks.number - 1) * SHARED,)](
            out, partial, crossings, columns, mean, chunks.split, SHARED
        )
    return out


@triton.jit(do_not_specialize=["segments", "tokens", "chunks", "blocks"])
def _sums(
    values, cu_seqlens, out, partial, crossings, segments, tokens, columns, stride, chunks, blocks,
    MEAN: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = (tl.program_id(0) // blocks).to(tl.int64)
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    first = chunk * SPLIT
    # The first rows are on their way before anything is known of segments; slack rows among them are added to none.
    ahead = rows_ahead(values, first, tokens, stride, places, inside, 0, ROWS)
    end, low, own, limit = chunk_bounds(cu_seqlens, segments, tokens, chunk, chunks, SPLIT)
    own, stop = _zero_empty(out, cu_seqlens, own, segments, limit, first, columns, places, inside)
    sums = tl.zeros((BLOCK,), tl.float32)
    for row in range(first, end, ROWS):
        rows = ahead
        ahead = rows_ahead(values, row + ROWS, end, stride, places, inside, 0, ROWS)
        for i in tl.static_range(ROWS):
            sums += rows[i].to(tl.float32)
            if row + i + 1 == stop:
                if own < low:
                    tl.store(partial + 2 * chunk * columns + places, sums, mask=inside)
                else:
                    if MEAN:
                        sums /= (stop - tl.load(cu_seqlens + own)).to(tl.float32)
                    tl.store(out + own * columns + places, sums, mask=inside)
                own, stop = _zero_empty(
                    out, cu_seqlens, own + 1, segments, limit, stop, columns, places, inside
                )
                sums = tl.zeros((BLOCK,), tl.float32)
    part = open_part(cu_seqlens, crossings, chunk, own, low, stop, end, SPLIT)
    if part >= 0:
        tl.store(partial + part * columns + places, sums, mask=inside)


@triton.jit
def _zero_empty(out, cu_seqlens, own, segments, limit, token, columns, places, inside):
    """Writes 0 for the segments that start and stop at ``token``; the next one, and where it stops."""
    stop = stop_of(cu_seqlens, own, segments)
    while (stop == token) & (token < limit):
        tl.store(out + own * columns + places, tl.zeros(places.shape, out.dtype.element_ty), mask=inside)
        own += 1
        stop = stop_of(cu_seqlens, own, segments)
    return own, stop


@triton.jit
def _join_sums(
    out, partial, crossings, columns, MEAN: tl.constexpr, SPLIT: tl.constexpr, SHARED: tl.constexpr
):  # fmt: skip
    number = tl.program_id(0) // SHARED
    segment, length, chunk, first, parts, rank = crossing(crossings, number, SPLIT)
    share = rank * SHARED + tl.program_id(0) % SHARED
    shares = (parts - 1) * SHARED
    divisor = length.to(tl.float32) if MEAN else 1.0
    out += segment * columns
    if parts > 8:
        _add_parts(out, partial, chunk, first, parts, share, shares, columns, divisor, 128, 32)
    elif parts > 0:
        _add_parts(out, partial, chunk, first, parts, share, shares, columns, divisor, 8, 256)


@triton.jit
def _add_parts(
    out,
    partial,
    chunk,
    first,
    parts,
    share,
    shares,
    columns,
    divisor,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Every ``shares``-th block of columns of one segment."""
    for block in range(share * BLOCK, columns, shares * BLOCK):
        places = block + tl.arange(0, BLOCK)
        inside = places < columns
        sums = tl.zeros((ROWS, BLOCK), tl.float32)
        for start in range(0, parts, ROWS):
            index = start + tl.arange(0, ROWS)
            mask = (index < parts)[:, None] & inside[None, :]
            numbers = part_number(chunk, first, index)
            sums += tl.load(partial + numbers[:, None] * columns + places[None, :], mask=mask, other=0)
        tl.store(out + places, tl.sum(sums, 0) / divisor, mask=inside)
