"""Gradient of the table of a bias by distance, in portable Triton, without atomics.

It is the sum of the gradients ``dS`` of all scores of one distance. Far tiles give one sum each, which the program of
queries makes beside ``dQ``. Near tiles are computed again here, two products each, and summed along their diagonals,
which positions with gaps bend:

    X[i, p] = sum_j dS[i, j] [position of key j == base + p]     a product with zeros and ones: the keys' gaps closed
    sum_i X[i, d + position of query i - base]                   rows moved until a column is a distance, and summed

A program has the queries of one tile and head, and a row of sums of its own; the rows are added up afterwards.

Legend: as in ``forward``; ``R`` longest distance, ``W`` positions or distances worked on together.
"""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from tersely.kernels.attention.triton.backward import weights
from tersely.kernels.attention.triton.distance import bias_of, positions_of, side_of
from tersely.kernels.attention.triton.forward import own

NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def _along_diagonals(
    sums, ds, query, key, low, high, R: tl.constexpr, TABLE: tl.constexpr, W: tl.constexpr
):  # fmt: skip
    """Adds a tile ``ds`` ``(queries, keys)`` to ``sums`` ``(TABLE / W, W)``; pairs ``R`` or more apart are 0 in it."""
    place = tl.arange(0, W)[None, :]
    part = tl.arange(0, TABLE // W)[:, None]
    base = tl.min(tl.where(key > low - R, key, NOWHERE), 0)
    while base < high + R:
        moved = tl.dot(ds, (key[:, None] == base + place).to(ds.dtype))
        nearest = tl.maximum(base - high, 1 - R) + R
        furthest = tl.minimum(base + (W - 1) - low, R - 1) + R
        for n in tl.range(nearest // W, furthest // W + 1):
            source = place + (query - base + (n * W - R))[:, None]
            column = tl.gather(moved, tl.minimum(tl.maximum(source, 0), W - 1), 1)
            column = tl.where((source >= 0) & (source < W), column, 0.0)
            sums += tl.where(part == n, tl.sum(column, 0)[None, :], 0.0)
        base = tl.min(tl.where(key >= base + W, key, NOWHERE), 0)
    return sums


@triton.jit(do_not_specialize=["Tq", "Tk", "H", "G", "padded"])
def attention_table(
    q_desc, dout_desc, k_desc, v_desc, rows_ptr, far_ptr, sums_ptr, bias_ptr, query_positions_ptr, key_positions_ptr,
    key_start_ptr, key_stop_ptr, query_stop_ptr, gate_ptr, scale, cap, Tq, Tk, H, G, padded,
    BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr, TABLE: tl.constexpr,
    W: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr, CAP: tl.constexpr,
):  # fmt: skip
    """``sums`` ``(H, ceil(Tq / BM), TABLE)``, fp32, from ``far`` ``(H, ceil(Tq / BM), 2)``, the sums of far tiles."""
    block, head = tl.program_id(0), tl.program_id(1)
    first = block * BM
    row = first + tl.arange(0, BM)
    inside = row < Tq
    row_start = tl.load(key_start_ptr + row, mask=inside, other=0)
    row_stop = tl.load(key_stop_ptr + row, mask=inside, other=0)
    row_span = tl.maximum(row_stop - row_start, 0).to(tl.uint32)
    begin = tl.load(key_start_ptr + first)
    end = tl.load(key_stop_ptr + tl.minimum(first + BM, Tq) - 1)
    place = rows_ptr + head.to(tl.int64) * padded + row
    lse2 = tl.load(place)[:, None]
    delta = tl.load(place + H.to(tl.int64) * padded)[:, None]
    q = own(q_desc, first, head, D, DP)
    dout = own(dout_desc, first, head, D, DP)
    query = positions_of(query_positions_ptr, first, Tq, BM)
    low, high = tl.min(query, 0), tl.max(query, 0)
    table_ptr = bias_ptr + head * (2 * R + 1) + R
    own_sums = (head.to(tl.int64) * tl.num_programs(0) + block).to(tl.int64)
    below = tl.load(far_ptr + own_sums * 2)
    above = tl.load(far_ptr + own_sums * 2 + 1)
    sums = tl.zeros([TABLE // W, W], tl.float32)
    for kv in tl.range(begin, end, BN):
        key = positions_of(key_positions_ptr, kv, Tk, BN)
        if side_of(low, high, key, R, BN) == 0:
            column = kv + tl.arange(0, BN)
            seen = (column[None, :] - row_start[:, None]).to(tl.uint32) < row_span[:, None]
            if TREE:
                stop = tl.load(query_stop_ptr + column, mask=column < Tk, other=0)
                seen = seen & (row[:, None] < stop[None, :])
            gate = lse2
            if GATE:
                gate = tl.load(gate_ptr + column, mask=column < Tk, other=0.0).to(tl.float32)[None, :]
            k = k_desc.load([kv, head // G * D])
            v = v_desc.load([kv, head // G * D])
            bias = bias_of(table_ptr, query[:, None], key[None, :], 0, R, BM, BN)
            p, _ = weights(tl.dot(q, k.T), lse2, scale, cap, gate, bias, GATE, CAP, True)
            ds = tl.where(seen, p * (tl.dot(dout, v.T) - delta), 0.0)
            distance = key[None, :] - query[:, None]
            is_below = distance <= -R
            is_above = (distance >= R) & (distance > -R)
            below += tl.sum(tl.sum(tl.where(is_below, ds, 0.0), 1), 0)
            above += tl.sum(tl.sum(tl.where(is_above, ds, 0.0), 1), 0)
            near = tl.where(is_below | is_above, 0.0, ds).to(q.dtype)
            sums = _along_diagonals(sums, near, query, key, low, high, R, TABLE, W)
    entry = tl.arange(0, TABLE // W)[:, None] * W + tl.arange(0, W)[None, :]
    sums += tl.where(entry == 0, below, 0.0) + tl.where(entry == 2 * R, above, 0.0)
    tl.store(sums_ptr + own_sums * TABLE + entry, sums)
