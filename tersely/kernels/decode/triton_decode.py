# Triton's language means other types to the compiler than to a type checker.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false
"""Decode attention in two launches: parts of each cache by themselves, then their sum.

A program reads ``PART`` keys and values of one key head of one cache, once, for all query heads of the group. It
keeps its result unscaled by the rest: the exponents' sum and their largest. A cache shorter than the longest leaves
programs without work, which end at once.

Legend: ``N`` queries, ``C`` places of the storage, ``KH`` key heads, ``G`` query heads of each, ``D`` head dimension,
``S`` parts of the longest cache.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["window", "parts"])
def attend_parts(
    q, k, v, start, length, part_out, part_sum, part_max, scale, softcap, window, parts,
    q_row, q_head, k_row, k_head, v_row, v_head,
    KH: tl.constexpr, G: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    PART: tl.constexpr, CAPPED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """``part_out`` (N, KH, S, G, D), ``part_sum`` and ``part_max`` (N, KH, S, G), all fp32."""
    number = tl.program_id(0) // KH
    head = tl.program_id(0) % KH
    part = tl.program_id(1)
    count = tl.load(length + number).to(tl.int32)
    low = part * PART
    if window >= 0:
        low = tl.maximum(low, count - 1 - window)
    high = tl.minimum((part + 1) * PART, count)
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    wide = columns < D
    grouped = rows < G
    out_at = (tl.program_id(0).to(tl.int64) * parts + part) * G + rows
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    out = tl.zeros([ROWS, WIDTH], tl.float32)
    if low < high:
        first = tl.load(start + number).to(tl.int64)
        query = tl.load(
            q + number.to(tl.int64) * q_row + (head * G + rows[:, None]) * q_head + columns[None, :],
            grouped[:, None] & wide[None, :], 0.0,
        )  # fmt: skip
        for block in range(low, high, BLOCK):
            place = block + tl.arange(0, BLOCK)
            inside = place < high
            row = first + place
            key = tl.load(
                k + row[None, :] * k_row + head * k_head + columns[:, None],
                inside[None, :] & wide[:, None],
                0.0,
            )
            x = tl.dot(query, key, input_precision="ieee" if EXACT else None) * scale
            if CAPPED:
                bent = x / softcap
                x = softcap * (1 - 2 / (tl.exp2(2 * LOG2E * bent) + 1))
            x = tl.where(inside[None, :], x, float("-inf"))
            higher = tl.maximum(top, tl.max(x, 1))
            p = tl.exp2((x - higher[:, None]) * LOG2E)
            shrink = tl.exp2((top - higher) * LOG2E)
            total = total * shrink + tl.sum(p, 1)
            value = tl.load(
                v + row[:, None] * v_row + head * v_head + columns[None, :],
                inside[:, None] & wide[None, :],
                0.0,
            )
            out = out * shrink[:, None]
            out += tl.dot(p.to(value.dtype), value, input_precision="ieee" if EXACT else None)
            top = higher
        tl.store(part_out + out_at[:, None] * D + columns[None, :], out, grouped[:, None] & wide[None, :])
    tl.store(part_sum + out_at, total, grouped)
    tl.store(part_max + out_at, top, grouped)


@triton.jit(do_not_specialize=["parts"])
def add_parts(
    part_out, part_sum, part_max, sink, out, parts,
    G: tl.constexpr, KH: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, SINK: tl.constexpr,
):  # fmt: skip
    """``out`` (N, H, D): one query head of one query for each program."""
    query = tl.program_id(0) // (KH * G)
    head = tl.program_id(0) % (KH * G)
    base = (query * KH + head // G).to(tl.int64) * parts
    columns = tl.arange(0, WIDTH)
    wide = columns < D
    top = tl.full([], float("-inf"), tl.float32)
    if SINK:
        top = tl.load(sink + head)
    total = tl.where(top == float("-inf"), 0.0, 1.0)
    sums = tl.zeros([WIDTH], tl.float32)
    for part in range(parts):
        at = (base + part) * G + head % G
        own = tl.load(part_max + at)
        if own > float("-inf"):
            higher = tl.maximum(top, own)
            shrink = tl.exp2((top - higher) * LOG2E)
            grow = tl.exp2((own - higher) * LOG2E)
            total = total * shrink + tl.load(part_sum + at) * grow
            sums = sums * shrink + tl.load(part_out + at * D + columns, wide, 0.0) * grow
            top = higher
    sums = sums / tl.where(total > 0, total, 1.0)
    tl.store(out + tl.program_id(0).to(tl.int64) * D + columns, sums.to(out.dtype.element_ty), wide)
