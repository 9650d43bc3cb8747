# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""How reductions share out packed tokens: by fixed chunks, whatever segments lie in them.

    tokens    0 1 2 3 | 4 5 6 7 | 8 9 . .      chunks of 4, cu_seqlens 0 1 3 10, two slack rows
    segments  a b b c   c c c c   c c
    written   a b       -         -            a and b by the first program: they end where they began
    parts     1: c      2: c      4: c         part 2 i is what covers the first token of chunk i, 2 i + 1 what begins later

A program walks the rows of one chunk and keeps a running sum for each column, which starts again with each segment. What
lies inside the chunk is written at once; what crosses its edges is a part, and a second launch adds up the parts. That has
a program for each edge between two chunks. A segment in ``P`` parts crosses ``P - 1`` edges, so as many programs share its
columns. Grids depend on ``T`` and ``C`` alone, each row is read once, and all is added in one order.

Legend: ``T`` packed tokens, ``N`` segments, ``C`` columns. All places are int64.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from tersely.kernels.rows import column_block
from tersely.kernels.segment.parts import segment_at

COLUMNS = 256
"""Of a program of one warp: one load of 16 bytes for each lane and row (bf16)."""
ROWS = 8
"""Loads of a lane that are on their way together; as many more while the rows before them are added."""
SPLIT = 128
"""Tokens of a chunk: fewer would make more parts, more would leave few programs."""
SHARED = 4
"""Programs for each edge between chunks."""


class Chunks(NamedTuple):
    """Sizes of a launch."""

    number: int
    split: int
    """Tokens of a chunk."""
    block: int
    """Columns of a program."""
    blocks: int
    """Programs side by side."""


def chunks_of(tokens: int, columns: int) -> Chunks:
    """The chunks of ``T`` tokens: one at least, for segments that are all empty."""
    block = column_block(columns, COLUMNS)
    return Chunks(max(1, triton.cdiv(tokens, SPLIT)), SPLIT, block, triton.cdiv(columns, block))


@triton.jit
def chunk_bounds(cu_seqlens, segments, tokens, chunk, chunks, SPLIT: tl.constexpr):
    """The end of the rows of a chunk; the first segment that starts in it or later, ``low``; the segment to begin with, that
    or the one before it; and the token from which on segments are left to the next program.
    """
    first = chunk * SPLIT
    end = tl.minimum(tl.minimum(first + SPLIT, tokens), tl.load(cu_seqlens + segments).to(tl.int64))
    low = tl.zeros((), tl.int64)
    own = low
    if chunk > 0:
        low = segment_at(cu_seqlens, segments, first - 1) + 1
        own = low - (tl.load(cu_seqlens + low) > first).to(tl.int64)
    limit = tl.where(chunk < chunks - 1, first + SPLIT, tokens + 1)
    return end, low, own, limit


@triton.jit
def stop_of(cu_seqlens, own, segments):
    """Where segment ``own`` stops; -1 past the last."""
    return tl.load(cu_seqlens + own + 1, mask=own < segments, other=-1).to(tl.int64)


@triton.jit
def rows_ahead(values, row, end, stride, places, inside, nothing, ROWS: tl.constexpr):
    """``ROWS`` rows, each a load of its own, so that all are on their way before the first is needed."""
    rows = ()
    for i in tl.static_range(ROWS):
        rows += (tl.load(values + (row + i) * stride + places, mask=inside & (row + i < end), other=nothing),)
    return rows


@triton.jit
def open_part(cu_seqlens, crossings, chunk, own, low, stop, end, SPLIT: tl.constexpr):
    """The part of the segment that goes on past a chunk, -1 if none does; and a note of it in ``crossings``.

    A note has four numbers: the segment, where it starts and stops, and the token that it crosses to, 0 for none.
    """
    start = tl.load(cu_seqlens + own).to(tl.int64)
    there = (end == (chunk + 1) * SPLIT) & (stop > end) & (start < end)
    note = crossings + chunk * 4
    tl.store(note, own)
    tl.store(note + 1, start)
    tl.store(note + 2, stop)
    tl.store(note + 3, tl.where(there, end, 0))
    late = (own >= low) & (start > chunk * SPLIT)
    return tl.where(there, 2 * chunk + late.to(tl.int64), -1)


@triton.jit
def crossing(crossings, number, SPLIT: tl.constexpr):
    """The segment that crosses from chunk ``number`` to the next, its length and its parts; no parts if none crosses.

    These are the first chunk, the first part, their number, and the rank of this edge among those that it crosses.
    """
    note = crossings + number.to(tl.int64) * 4
    start, stop = tl.load(note + 1), tl.load(note + 2)
    chunk = start // SPLIT
    first = 2 * chunk + (start > chunk * SPLIT).to(tl.int64)
    parts = tl.where(tl.load(note + 3) > 0, (stop - 1) // SPLIT - chunk + 1, 0)
    return tl.load(note), stop - start, chunk, first, parts, number - chunk


@triton.jit
def part_number(chunk, first, index):
    """The number of the ``index``-th part of a segment that starts in ``chunk``."""
    return tl.where(index == 0, first, 2 * (chunk + index)).to(tl.int64)
