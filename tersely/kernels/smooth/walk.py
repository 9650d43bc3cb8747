# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""How smoothing is shared out: fixed chunks of tokens, whatever documents lie in them, and a state from chunk to chunk.

    tokens  0 1 2 3 | 4 5 6 7 | 8 9 . .     chunks of 4, cu_seqlens 0 1 10, two slack rows
    ends    what each chunk makes of a state of 0, and what it leaves of another: 0 if a document starts in it
    carry   the state before each chunk, from these, one chunk after another
    walk    each chunk again, from its state, written out

Three launches, the first two left out for one chunk. From the right, for gradients, the same with all turned round.

Legend: ``T`` packed tokens, ``N`` documents, ``C`` columns. All places are int64.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block
from tersely.kernels.segment.parts import segment_at

COLUMNS = 256
"""Of a program of one warp: one load of 16 bytes for each lane and row (bf16)."""
ROWS = 8
"""Loads of a lane that are on their way together."""
SPLIT = 128
"""Tokens of a chunk."""
AHEAD = 16
"""Chunks whose ends are on their way together while states are carried."""


def states_of(
    rows: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor, reverse: bool
) -> torch.Tensor:
    """The state that each chunk of ``rows`` ``(T, C)`` begins with, ``(chunks, C)``, float32."""
    tokens, columns = rows.shape
    chunks, block = triton.cdiv(tokens, SPLIT), column_block(columns, COLUMNS)
    if chunks == 1:
        return rows.new_zeros(1, columns, dtype=torch.float32)
    states = rows.new_empty(chunks, columns, dtype=torch.float32)
    left = rows.new_empty(chunks, dtype=torch.float32)
    blocks = triton.cdiv(columns, block)
    _ends[(chunks * blocks,)](
        rows, weights, cu_seqlens, states, left, len(cu_seqlens) - 1, tokens, columns, rows.stride(0), blocks,
        reverse, SPLIT, ROWS, block, num_warps=1,
    )  # fmt: skip
    _carry[(triton.cdiv(columns, 32),)](states, left, chunks, columns, reverse, AHEAD, 32, num_warps=1)
    return states


@triton.jit
def rows_at(values, row, shift, end, stride, places, inside, ROWS: tl.constexpr):
    """``ROWS`` rows from ``row - shift`` on, each a load of its own; zeros before the first row and from ``end - shift``."""
    rows = ()
    for i in tl.static_range(ROWS):
        there = inside & (row + i < end) & (row + i >= shift)
        rows += (tl.load(values + (row + i - shift) * stride + places, mask=there, other=0).to(tl.float32),)
    return rows


@triton.jit
def weights_at(weights, row, end, ROWS: tl.constexpr):
    """Weights of ``ROWS`` tokens; zeros from ``end`` on."""
    found = ()
    for i in tl.static_range(ROWS):
        found += (tl.load(weights + row + i, mask=row + i < end, other=0).to(tl.float32),)
    return found


@triton.jit
def end_of(cu_seqlens, segments, tokens, first, SPLIT: tl.constexpr):
    """The end of the rows of a chunk that are no slack."""
    return tl.minimum(tl.minimum(first + SPLIT, tokens), tl.load(cu_seqlens + segments).to(tl.int64))


@triton.jit
def start_from(cu_seqlens, own, segments, row):
    """The first document from ``own`` on that starts at ``row`` or later, and where; the end of all after the last."""
    start = tl.load(cu_seqlens + own).to(tl.int64)
    while (start < row) & (own < segments):
        own += 1
        start = tl.load(cu_seqlens + own).to(tl.int64)
    return own, start


@triton.jit
def start_before(cu_seqlens, own, row):
    """The last document up to ``own`` that starts before ``row``, and where; the first one at least."""
    start = tl.load(cu_seqlens + own).to(tl.int64)
    while (start >= row) & (own > 0):
        own -= 1
        start = tl.load(cu_seqlens + own).to(tl.int64)
    return own, start


@triton.jit(do_not_specialize=["segments", "tokens", "blocks"])
def _ends(
    values, weights, cu_seqlens, states, left, segments, tokens, columns, stride, blocks,
    REVERSE: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = (tl.program_id(0) // blocks).to(tl.int64)
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    first = chunk * SPLIT
    end = end_of(cu_seqlens, segments, tokens, first, SPLIT)
    own = segment_at(cu_seqlens, segments, tl.maximum(end - 1, 0) if REVERSE else first)
    if REVERSE:
        own, start = start_before(cu_seqlens, own, end)
    else:
        own, start = start_from(cu_seqlens, own, segments, first)
    state = tl.zeros((BLOCK,), tl.float32)
    keep = tl.full((), 1.0, tl.float32)
    steps = tl.cdiv(tl.maximum(end - first, 0), ROWS)
    for step in range(steps):
        row = first + (steps - 1 - step if REVERSE else step) * ROWS
        rows = rows_at(values, row, 0, end, stride, places, inside, ROWS)
        own_weights = weights_at(weights, row, end, ROWS)
        for i in tl.static_range(ROWS):
            if REVERSE:
                weight = own_weights[ROWS - 1 - i]
                state = (1 - weight) * (rows[ROWS - 1 - i] + state)
                keep = keep * (1 - weight)
                if row + (ROWS - 1 - i) == start:
                    state = tl.zeros((BLOCK,), tl.float32)
                    keep = keep * 0
                    own, start = start_before(cu_seqlens, own, start)
            else:
                if row + i == start:
                    state = tl.zeros((BLOCK,), tl.float32)
                    keep = keep * 0
                    own, start = start_from(cu_seqlens, own, segments, start + 1)
                state = own_weights[i] * rows[i] + (1 - own_weights[i]) * state
                keep = keep * (1 - own_weights[i])
    tl.store(states + chunk * columns + places, state, mask=inside)
    if tl.program_id(0) % blocks == 0:
        tl.store(left + chunk, keep)


@triton.jit(do_not_specialize=["chunks"])
def _carry(
    states, left, chunks, columns, REVERSE: tl.constexpr, AHEAD: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    last = tl.zeros((), tl.int64) + chunks - 1
    state = tl.zeros((BLOCK,), tl.float32)
    for number in range(0, chunks, AHEAD):
        ends = ()
        keeps = ()
        for i in tl.static_range(AHEAD):
            chunk = last - number - i if REVERSE else last * 0 + number + i
            there = number + i < chunks
            ends += (tl.load(states + chunk * columns + places, mask=inside & there, other=0),)
            keeps += (tl.load(left + chunk, mask=there, other=0),)
        for i in tl.static_range(AHEAD):
            chunk = last - number - i if REVERSE else last * 0 + number + i
            tl.store(states + chunk * columns + places, state, mask=inside & (number + i < chunks))
            state = keeps[i] * state + ends[i]
