# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""Maxima over segments in Triton, and the first row that has each: a running maximum along each chunk, NaN wins as in torch.

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


def segment_maxima(values: torch.Tensor, cu_seqlens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maxima ``(N, C)`` of values ``(T, C)``, and their rows in ``values``, int32; 0 and -1 for empty segments."""
    (tokens, columns), segments = values.shape, len(cu_seqlens) - 1
    out = values.new_empty(segments, columns)
    best_rows = values.new_empty(segments, columns, dtype=torch.int32)
    if not out.numel():
        return out, best_rows
    chunks = chunks_of(tokens, columns)
    partial = values.new_empty(2 * chunks.number, columns)
    partial_rows = values.new_empty(2 * chunks.number, columns, dtype=torch.int32)
    crossings = cu_seqlens.new_empty(chunks.number, 4, dtype=torch.int64)
    results = (out, best_rows, partial, partial_rows, crossings)
    _maxima[(chunks.number * chunks.blocks,)](
        values, cu_seqlens, *results, segments, tokens, columns, values.stride(0), chunks.number, chunks.blocks,
        chunks.split, ROWS, chunks.block, num_warps=1,
    )  # fmt: skip
    if chunks.number > 1:
        _join_maxima[((chunks.number - 1) * SHARED,)](*results, columns, chunks.split, SHARED)
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


@triton.jit(do_not_specialize=["segments", "tokens", "chunks", "blocks"])
def _maxima(
    values, cu_seqlens, out, best_rows, partial, partial_rows, crossings, segments, tokens, columns, stride, chunks, blocks,
    SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = (tl.program_id(0) // blocks).to(tl.int64)
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    first = chunk * SPLIT
    ahead = rows_ahead(values, first, tokens, stride, places, inside, 0, ROWS)
    end, low, own, limit = chunk_bounds(cu_seqlens, segments, tokens, chunk, chunks, SPLIT)
    own, stop = _mark_empty(out, best_rows, cu_seqlens, own, segments, limit, first, columns, places, inside)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    where = tl.zeros((BLOCK,), tl.int32) + first.to(tl.int32)
    for row in range(first, end, ROWS):
        rows = ahead
        ahead = rows_ahead(values, row + ROWS, end, stride, places, inside, 0, ROWS)
        for i in tl.static_range(ROWS):
            value = rows[i].to(tl.float32)
            takes = (best == best) & ((value <= best) == 0)
            best = tl.where(takes, value, best)
            where = tl.where(takes, tl.cast(row + i, tl.int32), where)
            if row + i + 1 == stop:
                if own < low:
                    tl.store(partial + 2 * chunk * columns + places, best, mask=inside)
                    tl.store(partial_rows + 2 * chunk * columns + places, where, mask=inside)
                else:
                    tl.store(out + own * columns + places, best, mask=inside)
                    tl.store(best_rows + own * columns + places, where, mask=inside)
                own, stop = _mark_empty(
                    out, best_rows, cu_seqlens, own + 1, segments, limit, stop, columns, places, inside
                )
                best = tl.full((BLOCK,), float("-inf"), tl.float32)
                where = tl.zeros((BLOCK,), tl.int32) + tl.cast(row + i + 1, tl.int32)
    part = open_part(cu_seqlens, crossings, chunk, own, low, stop, end, SPLIT)
    if part >= 0:
        tl.store(partial + part * columns + places, best, mask=inside)
        tl.store(partial_rows + part * columns + places, where, mask=inside)


@triton.jit
def _mark_empty(out, best_rows, cu_seqlens, own, segments, limit, token, columns, places, inside):
    """Writes 0 and -1 for the segments that start and stop at ``token``; the next one, and where it stops."""
    stop = stop_of(cu_seqlens, own, segments)
    while (stop == token) & (token < limit):
        tl.store(out + own * columns + places, tl.zeros(places.shape, out.dtype.element_ty), mask=inside)
        tl.store(best_rows + own * columns + places, tl.full(places.shape, -1, tl.int32), mask=inside)
        own += 1
        stop = stop_of(cu_seqlens, own, segments)
    return own, stop


@triton.jit
def _join_maxima(
    out, best_rows, partial, partial_rows, crossings, columns, SPLIT: tl.constexpr, SHARED: tl.constexpr
):  # fmt: skip
    number = tl.program_id(0) // SHARED
    segment, _, chunk, first, parts, rank = crossing(crossings, number, SPLIT)
    share = rank * SHARED + tl.program_id(0) % SHARED
    shares = (parts - 1) * SHARED
    out += segment * columns
    best_rows += segment * columns
    if parts > 8:
        _best_part(
            out, best_rows, partial, partial_rows, chunk, first, parts, share, shares, columns, 128, 32
        )
    elif parts > 0:
        _best_part(
            out, best_rows, partial, partial_rows, chunk, first, parts, share, shares, columns, 1, 1024
        )


@triton.jit
def _best_part(
    out, best_rows, partial, partial_rows, chunk, first, parts, share, shares, columns,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Every ``shares``-th block of columns of one segment."""
    for block in range(share * BLOCK, columns, shares * BLOCK):
        places = block + tl.arange(0, BLOCK)
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
        tl.store(out + places, top, mask=inside)
        tl.store(best_rows + places, where_top, mask=inside)
