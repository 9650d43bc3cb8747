# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""Rotary embedding in Triton: queries and keys in one launch, positions found from the boundaries inside it.

A program has one token: it finds its position, reads one row of each table, and rotates the token's heads, those of the
queries and then those of the keys. Each element is read and written once.

Legend: ``T`` packed tokens, ``N`` segments, ``H`` heads, ``D`` head dimension, ``R = 2 * half`` rotated dimensions.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import power_of_two, row_block
from tersely.kernels.segment.parts import segment_at

ELEMENTS = 2048
"""Of a tile: with 4 warps, 16 for each thread."""


def rotated(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    interleaved: bool,
    inverse: bool,
    q_out: torch.Tensor,
    k_out: torch.Tensor,
) -> None:
    """Rotates ``q`` ``(T, H, D)`` into ``q_out`` and ``k`` into ``k_out``, which may be ``q`` and ``k``."""
    tokens, heads, width = q.shape
    half = cos.shape[1]
    if cu_seqlens is not None and len(cu_seqlens) == 1:
        q_out.zero_()
        k_out.zero_()
        return
    if not tokens or not width:
        return
    block, rest = power_of_two(half), width - 2 * half
    rows = row_block(2 * block, ELEMENTS, power_of_two(max(heads, k.shape[1])))
    strides = [stride for tensor in (q, k, q_out, k_out) for stride in tensor.stride()[:2]]
    _rotary[(tokens,)](
        q, k, q_out, k_out, cos, sin, cu_seqlens, position_ids,
        0 if cu_seqlens is None else len(cu_seqlens) - 1, len(cos), heads, k.shape[1], width, half,
        *strides, cos.stride(0), sin.stride(0),
        cu_seqlens is not None, position_ids is not None, interleaved, inverse,
        rows, block, power_of_two(rest) if rest else 0,
    )  # fmt: skip


@triton.jit(do_not_specialize=["segments", "positions"])
def _rotary(
    q, k, q_out, k_out, cos, sin, cu_seqlens, position_ids, segments, positions, heads, k_heads, width, half,
    q_stride, q_head_stride, k_stride, k_head_stride,
    q_out_stride, q_out_head_stride, k_out_stride, k_out_head_stride, cos_stride, sin_stride,
    BOUNDED: tl.constexpr, POSITIONS: tl.constexpr, INTERLEAVED: tl.constexpr, INVERSE: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    position, real = token, True
    if BOUNDED:
        real = token < tl.load(cu_seqlens + segments)
    if POSITIONS:
        position = tl.load(position_ids + token).to(tl.int64)
    elif BOUNDED:
        position = token - tl.load(cu_seqlens + segment_at(cu_seqlens, segments, token)).to(tl.int64)
    known = (position >= 0) & (position < positions)
    place = tl.arange(0, BLOCK)
    mask = (place < half) & known
    # A position outside the tables shows as NaN; slack rows are zeros whatever the tables hold.
    missing = tl.where(known, 0.0, float("nan"))
    c = tl.load(cos + position * cos_stride + place, mask=mask, other=0).to(tl.float32) + missing
    s = tl.load(sin + position * sin_stride + place, mask=mask, other=0).to(tl.float32) + missing
    if INVERSE:
        s = -s
    _turn(
        q + token * q_stride, q_out + token * q_out_stride, q_head_stride, q_out_head_stride, heads,
        c, s, real, width, half, INTERLEAVED, ROWS, BLOCK, REST,
    )  # fmt: skip
    _turn(
        k + token * k_stride, k_out + token * k_out_stride, k_head_stride, k_out_head_stride, k_heads,
        c, s, real, width, half, INTERLEAVED, ROWS, BLOCK, REST,
    )  # fmt: skip


@triton.jit
def _turn(
    values, out, stride, out_stride, heads, c, s, real, width, half,
    INTERLEAVED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Rotates all heads of one token by ``c`` and ``s``."""
    for start in range(0, heads, ROWS):
        head = start + tl.arange(0, ROWS)
        there = (head < heads)[:, None]
        source = values + head.to(tl.int64)[:, None] * stride
        sink = out + head.to(tl.int64)[:, None] * out_stride
        if INTERLEAVED:
            both = tl.arange(0, 2 * BLOCK)[None, :]
            mask = there & (both < 2 * half)
            pairs = tl.load(source + both, mask=mask & real, other=0).to(tl.float32)
            x, y = tl.split(tl.reshape(pairs, (ROWS, BLOCK, 2)))
            turned = tl.join(x * c[None, :] - y * s[None, :], y * c[None, :] + x * s[None, :])
            tl.store(sink + both, tl.where(real, tl.reshape(turned, (ROWS, 2 * BLOCK)), 0.0), mask=mask)
        else:
            place = tl.arange(0, BLOCK)[None, :]
            mask = there & (place < half)
            x = tl.load(source + place, mask=mask & real, other=0).to(tl.float32)
            y = tl.load(source + half + place, mask=mask & real, other=0).to(tl.float32)
            tl.store(sink + place, tl.where(real, x * c[None, :] - y * s[None, :], 0.0), mask=mask)
            tl.store(sink + half + place, tl.where(real, y * c[None, :] + x * s[None, :], 0.0), mask=mask)
        if REST:
            more = 2 * half + tl.arange(0, REST)[None, :]
            mask = there & (more < width)
            kept = tl.load(source + more, mask=mask & real, other=0)
            tl.store(sink + more, kept, mask=mask)
