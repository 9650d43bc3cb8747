# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""How kernels share out segments of any lengths: short ones whole, long ones by fixed chunks of tokens.

    tokens    0 1 2 3 | 4 5 6 7 | 8 9 . .      SPLIT = 4, cu_seqlens 0 1 3 10, two slack rows
    segments  a b b c   c c c c   c c
    parts     head 0, tail 0 | head 1, tail 1 | head 2, tail 2 | a | b | c
                      c        c                c                a   b

There are two parts for each chunk and one for each segment, so the grid depends on ``T`` and ``N`` alone. A segment of at
most SPLIT tokens is one part. A longer one is in every chunk it touches either the one that covers the chunk's first token
(the head) or the one that begins later and covers its last (the tail); nobody else can be long there.

Legend: ``T`` packed tokens, ``N`` segments. All places are int64.
"""

import triton
import triton.language as tl

WAYS = tl.constexpr(64)


@triton.jit
def segment_at(cu_seqlens, segments, token):
    """The last segment that starts at or before ``token``: the one that holds it, if it is no slack row.

    Looks at WAYS places at a time: the loads of one look are independent, and two looks are enough for 4,096 segments.
    """
    low = tl.zeros((), tl.int64)
    size = low + segments
    while size > 1:
        step = (size + WAYS - 1) // WAYS
        places = tl.arange(0, WAYS) * step
        starts = tl.load(cu_seqlens + low + places, mask=places < size, other=token + 1)
        taken = (tl.sum((starts <= token).to(tl.int32), 0) - 1) * step
        low += taken
        size = tl.minimum(step, size - taken)
    return low


@triton.jit
def bounds_of(cu_seqlens, segment, tokens):
    """Where a segment starts and ends, never past ``tokens``."""
    start = tl.load(cu_seqlens + segment).to(tl.int64)
    end = tl.load(cu_seqlens + segment + 1).to(tl.int64)
    return start, tl.minimum(end, tokens)


@triton.jit
def part_of(cu_seqlens, segments, tokens, part, chunks, SPLIT: tl.constexpr):
    """The segment of a part, its first token and the end of its tokens, and whether there is such a part."""
    if part < 2 * chunks:
        first = (part // 2).to(tl.int64) * SPLIT
        tail = part % 2
        token = first + tail * (SPLIT - 1)
        segment = segment_at(cu_seqlens, segments, token)
        start, end = bounds_of(cu_seqlens, segment, tokens)
        there = (token < end) & (end - start > SPLIT) & ((tail == 0) | (start > first))
        low = tl.maximum(start, first)
        high = tl.minimum(end, first + SPLIT)
    else:
        segment = (part - 2 * chunks).to(tl.int64)
        low, high = bounds_of(cu_seqlens, segment, tokens)
        there = high - low <= SPLIT
    return segment, low, high, there
