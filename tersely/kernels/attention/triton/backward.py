"""Packed attention backward in portable Triton: one launch, no atomics, the same bits in every run.

For each tile of tokens there are two programs of one grid: one owns ``BN`` keys and sums ``dK`` and ``dV`` over the
queries that see them (all query heads of the key head, so the sums stay in registers), the other owns ``BM`` queries
and sums ``dQ`` over their keys. They stand next to each other in the grid, so what both read comes from memory once
and from the cache after that: 7 products instead of the 5 of a version that adds ``dQ`` up in memory, but 8 tensors
of traffic instead of 18 (with fp32 sums of ``dQ``).

``attention_rows`` goes first and writes what both need of each row: ``lse`` in units of log 2, infinite where weights
must come out as 0, and ``delta = rowsum(out * dout)``, which the softmax takes off ``dP``. Rows are padded to whole
tiles, so that the copy engine brings them along with the tiles of ``q`` and ``dout``: loads by threads, with their
addresses and masks, cost as many instructions as all the arithmetic of a step.

Legend: as in ``forward``; ``BM1`` queries of a step of the program of keys, ``BN2`` keys of a step of the program of
queries.
"""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from tersely.kernels.attention.triton.distance import bias_of, positions_of, side_of
from tersely.kernels.attention.triton.forward import LOG2E, TILE, own, reaches, tanh


@triton.jit(do_not_specialize=["Tq", "padded"])
def attention_rows(
    out_desc, dout_desc, lse_ptr, dlse_ptr, rows_ptr, Tq, padded,
    BM: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, DLSE: tl.constexpr,
):  # fmt: skip
    """``rows`` ``(2, H, padded)``, fp32: ``lse * log2(e)``, and ``delta`` less the gradient that reaches ``lse``."""
    first, head = tl.program_id(0) * BM, tl.program_id(1).to(tl.int64)
    row = first + tl.arange(0, BM)
    lse = tl.load(lse_ptr + head * Tq + row, mask=row < Tq, other=float("inf"))
    out = out_desc.load([first, tl.program_id(1) * D])
    dout = own(dout_desc, first, tl.program_id(1), D, DP)
    delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    if DLSE:
        delta -= tl.load(dlse_ptr + head * Tq + row, mask=row < Tq, other=0.0)
    place = rows_ptr + head * padded + row
    tl.store(place, tl.where(lse == float("-inf"), float("inf"), lse * LOG2E))
    tl.store(place + tl.num_programs(1).to(tl.int64) * padded, delta)


@triton.jit
def weights(x, lse2, scale, cap, gate, bias, GATE: tl.constexpr, CAP: tl.constexpr, BIAS: tl.constexpr):
    """Softmax weights again from products ``x``, and the tanh of the soft-cap, for its derivative."""
    bent = x
    if CAP:
        bent = tanh(x * (scale / cap))
        x = bent * (cap * LOG2E)
    else:
        x = x * (scale * LOG2E)
    if BIAS:
        x += bias * LOG2E
    if GATE:
        x += gate * LOG2E
    return tl.math.exp2(x - lse2), bent


@triton.jit
def _key_step(
    dk, dv, dgate, k, v, q_desc, dout_desc, rows_desc, gate, first_query, head, H, column_start, column_span, scale, cap,
    distances, BM1: tl.constexpr, D: tl.constexpr, MASKED: tl.constexpr, GATE: tl.constexpr, CAP: tl.constexpr,
    BIAS: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Queries ``first_query`` to ``first_query + BM1`` of one head; all scores transposed, keys are rows."""
    q = q_desc.load([first_query, head * D])
    lse2 = rows_desc.load([head, first_query])
    bias = lse2
    if BIAS:
        bias_ptr, key, low, high, query_positions_ptr, Tq = distances
        position = positions_of(query_positions_ptr, first_query, Tq, BM1)
        side = side_of(-high, -low, -position, R, BM1)
        table_ptr = bias_ptr + head * (2 * R + 1) + R
        bias = bias_of(table_ptr, position[None, :], key[:, None], side, R, k.shape[0], BM1)
    p, bent = weights(tl.dot(k, q.T), lse2, scale, cap, gate[:, None], bias, GATE, CAP, BIAS)
    if MASKED:
        query = first_query + tl.arange(0, BM1)
        seen = (query[None, :] - column_start[:, None]).to(tl.uint32) < column_span[:, None]
        p = tl.where(seen, p, 0.0)
    dout = dout_desc.load([first_query, head * D])
    dv = tl.dot(p.to(dout.dtype), dout, dv)
    delta = rows_desc.load([H + head, first_query])
    ds = p * (tl.dot(v, dout.T) - delta)
    if GATE:
        dgate += tl.sum(ds, 1)
    if CAP:
        ds = ds * (1.0 - bent * bent)
    return tl.dot(ds.to(q.dtype), q, dk), dv, dgate


@triton.jit
def _keys(
    first, kv_head, k_desc, v_desc, q_steps, dout_steps, rows_steps, dk_desc, dv_desc,
    query_start_ptr, query_stop_ptr, gate_ptr, dgate_ptr, scale, cap, Tq, Tk, H, G,
    bias_ptr, query_positions_ptr, key_positions_ptr,
    BN: tl.constexpr, BM1: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr,
    CAP: tl.constexpr, BIAS: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """The program of keys: ``dk``, ``dv`` and ``dgate`` of ``BN`` keys of one key head."""
    last = tl.minimum(first + BN, Tk) - 1
    key = first + tl.arange(0, BN)
    inside = key < Tk
    column_start = tl.load(query_start_ptr + key, mask=inside, other=0)
    column_stop = tl.load(query_stop_ptr + key, mask=inside, other=0)
    column_span = tl.maximum(column_stop - column_start, 0).to(tl.uint32)
    begin = (
        tl.load(query_start_ptr + first) // 4 * 4
    )  # the copy engine wants ``rows`` at multiples of 16 bytes
    end = tl.max(column_stop, 0)
    if TREE or BIAS:
        whole_from = end
        whole_to = end
    else:
        shared_start = tl.minimum(tl.load(query_start_ptr + last), end)
        shared_stop = tl.load(query_stop_ptr + first)
        whole_from = begin + tl.cdiv(tl.maximum(shared_start - begin, 0), BM1) * BM1
        whole_to = whole_from + tl.maximum(shared_stop - whole_from, 0) // BM1 * BM1
    k = own(k_desc, first, kv_head, D, DP)
    v = own(v_desc, first, kv_head, D, DP)
    gate = tl.zeros([BN], tl.float32)
    if GATE:
        gate = tl.load(gate_ptr + key, mask=inside, other=0.0).to(tl.float32)
    distances = None
    if BIAS:
        position = positions_of(key_positions_ptr, first, Tk, BN)
        distances = (bias_ptr, position, tl.min(position, 0), tl.max(position, 0), query_positions_ptr, Tq)
    dk = tl.zeros([BN, DP], tl.float32)
    dv = tl.zeros([BN, DP], tl.float32)
    dgate = tl.zeros([BN], tl.float32)
    for member in range(G):
        head = kv_head * G + member
        for m in tl.range(begin, whole_from, BM1):
            dk, dv, dgate = _key_step(
                dk, dv, dgate, k, v, q_steps, dout_steps, rows_steps, gate, m, head, H, column_start, column_span, scale, cap,
                distances, BM1, D, True, GATE, CAP, BIAS, R,
            )  # fmt: skip
        if not (TREE or BIAS):
            for m in tl.range(whole_from, whole_to, BM1):
                dk, dv, dgate = _key_step(
                    dk, dv, dgate, k, v, q_steps, dout_steps, rows_steps, gate, m, head, H, column_start, column_span, scale, cap,
                    distances, BM1, D, False, GATE, CAP, BIAS, R,
                )  # fmt: skip
            for m in tl.range(whole_to, end, BM1):
                dk, dv, dgate = _key_step(
                    dk, dv, dgate, k, v, q_steps, dout_steps, rows_steps, gate, m, head, H, column_start, column_span, scale, cap,
                    distances, BM1, D, True, GATE, CAP, BIAS, R,
                )  # fmt: skip
    dk_desc.store([first, kv_head, 0], (dk * scale).to(dk_desc.dtype).reshape(BN, 1, DP))
    dv_desc.store([first, kv_head, 0], dv.to(dv_desc.dtype).reshape(BN, 1, DP))
    if GATE:
        tl.store(dgate_ptr + kv_head.to(tl.int64) * Tk + key, dgate, mask=inside)


@triton.jit
def _query_step(
    dq, below, above, q, dout, k_desc, v_desc, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
    scale, cap, Tk, distances,
    BN2: tl.constexpr, D: tl.constexpr, MASKED: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr,
    CAP: tl.constexpr, BIAS: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Keys ``kv`` to ``kv + BN2``; tiles of far keys add their sums to ``below`` and ``above``."""
    column = tl.arange(0, BN2)
    gate = lse2
    if GATE:
        gate = tl.load(gate_ptr + kv + column, mask=kv + column < Tk, other=0.0).to(tl.float32)[None, :]
    k = k_desc.load([kv, kv_head * D])
    bias = lse2
    if BIAS:
        table_ptr, position, low, high, key_positions_ptr = distances
        key = positions_of(key_positions_ptr, kv, Tk, BN2)
        side = side_of(low, high, key, R, BN2)
        bias = bias_of(table_ptr, position[:, None], key[None, :], side, R, q.shape[0], BN2)
    p, bent = weights(tl.dot(q, k.T), lse2[:, None], scale, cap, gate, bias, GATE, CAP, BIAS)
    if MASKED:
        seen = (column[None, :] + (kv - row_start)[:, None]).to(tl.uint32) < row_span[:, None]
        if TREE:
            stop = tl.load(query_stop_ptr + kv + column, mask=kv + column < Tk, other=0)
            seen = seen & (row[:, None] < stop[None, :])
        p = tl.where(seen, p, 0.0)
    v = v_desc.load([kv, kv_head * D])
    ds = p * (tl.dot(dout, v.T) - delta[:, None])
    if BIAS:
        total = tl.sum(ds, 1)
        below += tl.where(side < 0, total, 0.0)
        above += tl.where(side > 0, total, 0.0)
    if CAP:
        ds = ds * (1.0 - bent * bent)
    return tl.dot(ds.to(k.dtype), k, dq), below, above


@triton.jit
def _queries(
    first, head, q_desc, dout_desc, k_steps, v_steps, dq_desc, rows_ptr,
    key_start_ptr, key_stop_ptr, query_stop_ptr, gate_ptr, scale, cap, Tq, Tk, H, G, padded,
    bias_ptr, query_positions_ptr, key_positions_ptr, far_ptr,
    BM: tl.constexpr, BN2: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr,
    CAP: tl.constexpr, BIAS: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """The program of queries: ``dq`` of ``BM`` queries of one head, and the sums of their far tiles."""
    last = tl.minimum(first + BM, Tq) - 1
    row = first + tl.arange(0, BM)
    inside = row < Tq
    row_start = tl.load(key_start_ptr + row, mask=inside, other=0)
    row_stop = tl.load(key_stop_ptr + row, mask=inside, other=0)
    row_span = tl.maximum(row_stop - row_start, 0).to(tl.uint32)
    begin = tl.load(key_start_ptr + first)
    end = tl.load(key_stop_ptr + last)
    kv_head = head // G
    place = rows_ptr + head.to(tl.int64) * padded + row
    q = own(q_desc, first, head, D, DP)
    dout = own(dout_desc, first, head, D, DP)
    lse2 = tl.load(place)
    delta = tl.load(place + H.to(tl.int64) * padded)
    distances = None
    if BIAS:
        position = positions_of(query_positions_ptr, first, Tq, BM)
        table_ptr = bias_ptr + head * (2 * R + 1) + R
        distances = (table_ptr, position, tl.min(position, 0), tl.max(position, 0), key_positions_ptr)
    below = tl.zeros([BM], tl.float32)
    above = tl.zeros([BM], tl.float32)
    dq = tl.zeros([BM, DP], tl.float32)
    if TREE:
        for kv in tl.range(begin, end, BN2):
            if reaches(query_stop_ptr, kv, first, Tk, BN2):
                dq, below, above = _query_step(
                    dq, below, above, q, dout, k_steps, v_steps, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start,
                    row_span, scale, cap, Tk, distances, BN2, D, True, True, GATE, CAP, BIAS, R,
                )  # fmt: skip
    elif BIAS:
        for kv in tl.range(begin, end, BN2):
            dq, below, above = _query_step(
                dq, below, above, q, dout, k_steps, v_steps, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start,
                row_span, scale, cap, Tk, distances, BN2, D, True, False, GATE, CAP, BIAS, R,
            )  # fmt: skip
    else:
        shared_start = tl.minimum(tl.load(key_start_ptr + last), end)
        shared_stop = tl.load(key_stop_ptr + first)
        whole_from = begin + tl.cdiv(tl.maximum(shared_start - begin, 0), BN2) * BN2
        whole_to = whole_from + tl.maximum(shared_stop - whole_from, 0) // BN2 * BN2
        for kv in tl.range(begin, whole_from, BN2):
            dq, below, above = _query_step(
                dq, below, above, q, dout, k_steps, v_steps, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start,
                row_span, scale, cap, Tk, distances, BN2, D, True, False, GATE, CAP, BIAS, R,
            )  # fmt: skip
        for kv in tl.range(whole_from, whole_to, BN2):
            dq, below, above = _query_step(
                dq, below, above, q, dout, k_steps, v_steps, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start,
                row_span, scale, cap, Tk, distances, BN2, D, False, False, GATE, CAP, BIAS, R,
            )  # fmt: skip
        for kv in tl.range(whole_to, end, BN2):
            dq, below, above = _query_step(
                dq, below, above, q, dout, k_steps, v_steps, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start,
                row_span, scale, cap, Tk, distances, BN2, D, True, False, GATE, CAP, BIAS, R,
            )  # fmt: skip
    dq_desc.store([first, head, 0], (dq * scale).to(dq_desc.dtype).reshape(BM, 1, DP))
    if BIAS:
        far = far_ptr + (head.to(tl.int64) * tl.cdiv(Tq, BM) + first // BM) * 2
        tl.store(far, tl.sum(below, 0))
        tl.store(far + 1, tl.sum(above, 0))


@triton.jit(do_not_specialize=["Tq", "Tk", "H", "G", "tiles", "HEADS_TOGETHER", "padded"])
def attention_backward(
    q_desc, dout_desc, k_steps, v_steps, dq_desc, k_desc, v_desc, q_steps, dout_steps, rows_steps, dk_desc, dv_desc,
    rows_ptr, key_start_ptr, key_stop_ptr, query_start_ptr, query_stop_ptr, query_tiles_ptr, key_tiles_ptr,
    gate_ptr, dgate_ptr, scale, cap, Tq, Tk, H, G, tiles, HEADS_TOGETHER, padded,
    bias_ptr, query_positions_ptr, key_positions_ptr, far_ptr,
    BN: tl.constexpr, BM1: tl.constexpr, BM: tl.constexpr, BN2: tl.constexpr,
    D: tl.constexpr, DP: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr, CAP: tl.constexpr,
    BIAS: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """``dq`` ``(Tq, H, D)``, ``dk`` and ``dv`` ``(Tk, H / G, D)``, ``dgate`` ``(H / G, Tk)``, ``far`` of ``table.py``."""
    KEYS: tl.constexpr = TILE // BN  # programs of a tile and key head
    QUERIES: tl.constexpr = TILE // BM
    each = KEYS + G * QUERIES
    group = tl.program_id(0) // (tiles * HEADS_TOGETHER * each)
    together = tl.minimum(HEADS_TOGETHER, H // G - group * HEADS_TOGETHER)
    rest = tl.program_id(0) - group * tiles * HEADS_TOGETHER * each
    rank = rest // (together * each)
    rest -= rank * together * each
    kv_head = group * HEADS_TOGETHER + rest % together
    part = rest // together
    if part < KEYS:
        if rank * TILE < Tk:
            first = tl.load(key_tiles_ptr + rank) * TILE + part * BN
            if first < Tk:
                _keys(
                    first, kv_head, k_desc, v_desc, q_steps, dout_steps, rows_steps, dk_desc, dv_desc,
                    query_start_ptr, query_stop_ptr, gate_ptr, dgate_ptr, scale, cap, Tq, Tk, H, G,
                    bias_ptr, query_positions_ptr, key_positions_ptr, BN, BM1, D, DP, TREE, GATE, CAP, BIAS, R,
                )  # fmt: skip
    else:
        part -= KEYS
        if rank * TILE < Tq:
            first = tl.load(query_tiles_ptr + rank) * TILE + (QUERIES - 1 - part % QUERIES) * BM
            if first < Tq:
                _queries(
                    first, kv_head * G + part // QUERIES, q_desc, dout_desc, k_steps, v_steps, dq_desc, rows_ptr,
                    key_start_ptr, key_stop_ptr, query_stop_ptr, gate_ptr, scale, cap, Tq, Tk, H, G, padded,
                    bias_ptr, query_positions_ptr, key_positions_ptr, far_ptr, BM, BN2, D, DP, TREE, GATE, CAP, BIAS, R,
                )  # fmt: skip
