"""Packed attention backward in portable Triton: one launch, no atomics, the same bits in every run.

For each tile of tokens there are two programs of one grid: one owns ``BN`` keys and sums ``dK`` and ``dV`` over the
queries that see them (all query heads of the key head, so the sums stay in registers), the other owns ``BM`` queries
and sums ``dQ`` over their keys. They stand next to each other in the grid, so what both read comes from memory once
and from the cache after that: 7 products instead of the 5 of a version that adds ``dQ`` up in memory, but 8 tensors
of traffic instead of 18.

``delta = rowsum(out * dout)`` is what the softmax takes off ``dP``; it comes from ``attention_delta``, or is computed
from the tiles at hand where documents are short and a pass over memory costs more (``DELTA`` false).

Legend: as in ``forward``; ``BM1`` queries of a step of the program of keys, ``BN2`` keys of a step of the program of
queries.
"""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from tersely.kernels.attention.triton.forward import LOG2E, TILE, tanh


@triton.jit(do_not_specialize=["Tq", "H"])
def attention_delta(out_desc, dout_desc, dlse_ptr, delta_ptr, Tq, BM: tl.constexpr, DP: tl.constexpr, DLSE: tl.constexpr):
    """``rowsum(out * dout)``, less the gradient that reaches ``lse`` itself; ``(H, Tq)``, fp32."""
    first, head = tl.program_id(0) * BM, tl.program_id(1)
    row = first + tl.arange(0, BM)
    place = head.to(tl.int64) * Tq + row
    delta = row_delta(out_desc, dout_desc.load([first, head, 0]).reshape(BM, DP), first, head, BM, DP)
    if DLSE:
        delta -= tl.load(dlse_ptr + place, mask=row < Tq, other=0.0)
    tl.store(delta_ptr + place, delta, mask=row < Tq)


@triton.jit
def row_delta(out_desc, dout, first, head, BM: tl.constexpr, DP: tl.constexpr):
    out = out_desc.load([first, head, 0]).reshape(BM, DP)
    return tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)


@triton.jit
def _weights(x, lse2, scale, cap, gate, GATE: tl.constexpr, CAP: tl.constexpr):
    """Softmax weights again from products ``x``, and the tanh of the soft-cap, for its derivative."""
    bent = x
    if CAP:
        bent = tanh(x * (scale / cap))
        x = bent * (cap * LOG2E)
    else:
        x = x * (scale * LOG2E)
    if GATE:
        x += gate * LOG2E
    return tl.math.exp2(x - lse2), bent


@triton.jit
def _key_step(
    dk, dv, dgate, k, v, q_desc, dout_desc, out_desc, lse_ptr, delta_ptr, gate, first_query, head,
    column_start, column_span, scale, cap, Tq,
    BM1: tl.constexpr, DP: tl.constexpr, MASKED: tl.constexpr, GATE: tl.constexpr,
    CAP: tl.constexpr, DELTA: tl.constexpr,
):  # fmt: skip
    """Queries ``first_query`` to ``first_query + BM1`` of one head; all scores transposed, keys are rows."""
    query = first_query + tl.arange(0, BM1)
    place = head.to(tl.int64) * Tq + query
    q = q_desc.load([first_query, head, 0]).reshape(BM1, DP)
    lse2 = tl.load(lse_ptr + place, mask=query < Tq, other=float("inf")) * LOG2E
    p, bent = _weights(tl.dot(k, q.T), lse2[None, :], scale, cap, gate[:, None], GATE, CAP)
    if MASKED:
        seen = (query[None, :] - column_start[:, None]).to(tl.uint32) < column_span[:, None]
        p = tl.where(seen, p, 0.0)
    dout = dout_desc.load([first_query, head, 0]).reshape(BM1, DP)
    dv = tl.dot(p.to(dout.dtype), dout, dv)
    if DELTA:
        delta = tl.load(delta_ptr + place, mask=query < Tq, other=0.0)
    else:
        delta = row_delta(out_desc, dout, first_query, head, BM1, DP)
    ds = p * (tl.dot(v, dout.T) - delta[None, :])
    if GATE:
        dgate += tl.sum(ds, 1)
    if CAP:
        ds = ds * (1.0 - bent * bent)
    return tl.dot(ds.to(q.dtype), q, dk), dv, dgate


@triton.jit
def _keys(
    first, kv_head, k_desc, v_desc, q_steps, dout_steps, out_steps, dk_desc, dv_desc, lse_ptr, delta_ptr,
    query_start_ptr, query_stop_ptr, gate_ptr, dgate_ptr, scale, cap, Tq, Tk, G,
    BN: tl.constexpr, BM1: tl.constexpr, DP: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr,
    CAP: tl.constexpr, DELTA: tl.constexpr,
):  # fmt: skip
    """The program of keys: ``dk``, ``dv`` and ``dgate`` of ``BN`` keys of one key head."""
    last = tl.minimum(first + BN, Tk) - 1
    key = first + tl.arange(0, BN)
    inside = key < Tk
    column_start = tl.load(query_start_ptr + key, mask=inside, other=0)
    column_stop = tl.load(query_stop_ptr + key, mask=inside, other=0)
    column_span = tl.maximum(column_stop - column_start, 0).to(tl.uint32)
    begin = tl.load(query_start_ptr + first)
    end = tl.max(column_stop, 0)
    if TREE:
        whole_from = end
        whole_to = end
    else:
        shared_start = tl.minimum(tl.load(query_start_ptr + last), end)
        shared_stop = tl.load(query_stop_ptr + first)
        whole_from = begin + tl.cdiv(tl.maximum(shared_start - begin, 0), BM1) * BM1
        whole_to = whole_from + tl.maximum(shared_stop - whole_from, 0) // BM1 * BM1
    k = k_desc.load([first, kv_head, 0]).reshape(BN, DP)
    v = v_desc.load([first, kv_head, 0]).reshape(BN, DP)
    gate = tl.zeros([BN], tl.float32)
    if GATE:
        gate = tl.load(gate_ptr + key, mask=inside, other=0.0).to(tl.float32)
    dk = tl.zeros([BN, DP], tl.float32)
    dv = tl.zeros([BN, DP], tl.float32)
    dgate = tl.zeros([BN], tl.float32)
    for member in range(G):
        head = kv_head * G + member
        for m in tl.range(begin, whole_from, BM1):
            dk, dv, dgate = _key_step(
                dk, dv, dgate, k, v, q_steps, dout_steps, out_steps, lse_ptr, delta_ptr, gate, m, head,
                column_start, column_span, scale, cap, Tq, BM1, DP, True, GATE, CAP, DELTA,
            )  # fmt: skip
        if not TREE:
            for m in tl.range(whole_from, whole_to, BM1):
                dk, dv, dgate = _key_step(
                    dk, dv, dgate, k, v, q_steps, dout_steps, out_steps, lse_ptr, delta_ptr, gate, m, head,
                    column_start, column_span, scale, cap, Tq, BM1, DP, False, GATE, CAP, DELTA,
                )  # fmt: skip
            for m in tl.range(whole_to, end, BM1):
                dk, dv, dgate = _key_step(
                    dk, dv, dgate, k, v, q_steps, dout_steps, out_steps, lse_ptr, delta_ptr, gate, m, head,
                    column_start, column_span, scale, cap, Tq, BM1, DP, True, GATE, CAP, DELTA,
                )  # fmt: skip
    dk_desc.store([first, kv_head, 0], (dk * scale).to(dk_desc.dtype).reshape(BN, 1, DP))
    dv_desc.store([first, kv_head, 0], dv.to(dv_desc.dtype).reshape(BN, 1, DP))
    if GATE:
        tl.store(dgate_ptr + kv_head.to(tl.int64) * Tk + key, dgate, mask=inside)


@triton.jit
def _query_step(
    dq, q, dout, k_desc, v_desc, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
    scale, cap, Tk,
    BN2: tl.constexpr, DP: tl.constexpr, MASKED: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr,
    CAP: tl.constexpr,
):  # fmt: skip
    """Keys ``kv`` to ``kv + BN2``."""
    column = tl.arange(0, BN2)
    gate = lse2
    if GATE:
        gate = tl.load(gate_ptr + kv + column, mask=kv + column < Tk, other=0.0).to(tl.float32)[None, :]
    k = k_desc.load([kv, kv_head, 0]).reshape(BN2, DP)
    p, bent = _weights(tl.dot(q, k.T), lse2[:, None], scale, cap, gate, GATE, CAP)
    if MASKED:
        seen = (column[None, :] + (kv - row_start)[:, None]).to(tl.uint32) < row_span[:, None]
        if TREE:
            stop = tl.load(query_stop_ptr + kv + column, mask=kv + column < Tk, other=0)
            seen = seen & (row[:, None] < stop[None, :])
        p = tl.where(seen, p, 0.0)
    v = v_desc.load([kv, kv_head, 0]).reshape(BN2, DP)
    ds = p * (tl.dot(dout, v.T) - delta[:, None])
    if CAP:
        ds = ds * (1.0 - bent * bent)
    return tl.dot(ds.to(k.dtype), k, dq)


@triton.jit
def _queries(
    first, head, q_desc, dout_desc, out_desc, k_steps, v_steps, dq_desc, lse_ptr, delta_ptr,
    key_start_ptr, key_stop_ptr, query_stop_ptr, gate_ptr, scale, cap, Tq, Tk, G,
    BM: tl.constexpr, BN2: tl.constexpr, DP: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr,
    CAP: tl.constexpr, DELTA: tl.constexpr,
):  # fmt: skip
    """The program of queries: ``dq`` of ``BM`` queries of one head."""
    last = tl.minimum(first + BM, Tq) - 1
    row = first + tl.arange(0, BM)
    inside = row < Tq
    row_start = tl.load(key_start_ptr + row, mask=inside, other=0)
    row_stop = tl.load(key_stop_ptr + row, mask=inside, other=0)
    row_span = tl.maximum(row_stop - row_start, 0).to(tl.uint32)
    begin = tl.load(key_start_ptr + first)
    end = tl.load(key_stop_ptr + last)
    if TREE:
        whole_from = end
        whole_to = end
    else:
        shared_start = tl.minimum(tl.load(key_start_ptr + last), end)
        shared_stop = tl.load(key_stop_ptr + first)
        whole_from = begin + tl.cdiv(tl.maximum(shared_start - begin, 0), BN2) * BN2
        whole_to = whole_from + tl.maximum(shared_stop - whole_from, 0) // BN2 * BN2
    kv_head = head // G
    place = head.to(tl.int64) * Tq + row
    q = q_desc.load([first, head, 0]).reshape(BM, DP)
    dout = dout_desc.load([first, head, 0]).reshape(BM, DP)
    lse2 = tl.load(lse_ptr + place, mask=inside, other=float("inf")) * LOG2E
    if DELTA:
        delta = tl.load(delta_ptr + place, mask=inside, other=0.0)
    else:
        delta = row_delta(out_desc, dout, first, head, BM, DP)
    dq = tl.zeros([BM, DP], tl.float32)
    for kv in tl.range(begin, whole_from, BN2):
        dq = _query_step(
            dq, q, dout, k_steps, v_steps, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
            scale, cap, Tk, BN2, DP, True, TREE, GATE, CAP,
        )  # fmt: skip
    if not TREE:
        for kv in tl.range(whole_from, whole_to, BN2):
            dq = _query_step(
                dq, q, dout, k_steps, v_steps, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start,
                row_span, scale, cap, Tk, BN2, DP, False, TREE, GATE, CAP,
            )  # fmt: skip
        for kv in tl.range(whole_to, end, BN2):
            dq = _query_step(
                dq, q, dout, k_steps, v_steps, lse2, delta, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start,
                row_span, scale, cap, Tk, BN2, DP, True, TREE, GATE, CAP,
            )  # fmt: skip
    dq_desc.store([first, head, 0], (dq * scale).to(dq_desc.dtype).reshape(BM, 1, DP))


@triton.jit(do_not_specialize=["Tq", "Tk", "H", "KH", "G", "tiles", "HEADS_TOGETHER"])
def attention_backward(
    q_desc, dout_desc, out_desc, k_steps, v_steps, dq_desc, k_desc, v_desc, q_steps, dout_steps, out_steps, dk_desc, dv_desc,
    lse_ptr, delta_ptr,
    key_start_ptr, key_stop_ptr, query_start_ptr, query_stop_ptr, query_tiles_ptr, key_tiles_ptr, gate_ptr, dgate_ptr,
    scale, cap, Tq, Tk, KH, G, tiles, HEADS_TOGETHER,
    BN: tl.constexpr, BM1: tl.constexpr, BM: tl.constexpr, BN2: tl.constexpr, DP: tl.constexpr,
    TREE: tl.constexpr, GATE: tl.constexpr, CAP: tl.constexpr, DELTA: tl.constexpr,
):  # fmt: skip
    """``dq`` ``(Tq, H, D)``, ``dk`` and ``dv`` ``(Tk, KH, D)``, ``dgate`` ``(KH, Tk)``; ``KH`` key heads."""
    KEYS: tl.constexpr = TILE // BN  # programs of a tile and key head
    QUERIES: tl.constexpr = TILE // BM
    each = KEYS + G * QUERIES
    group = tl.program_id(0) // (tiles * HEADS_TOGETHER * each)
    together = tl.minimum(HEADS_TOGETHER, KH - group * HEADS_TOGETHER)
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
                    first, kv_head, k_desc, v_desc, q_steps, dout_steps, out_steps, dk_desc, dv_desc, lse_ptr, delta_ptr,
                    query_start_ptr, query_stop_ptr, gate_ptr, dgate_ptr, scale, cap, Tq, Tk, G,
                    BN, BM1, DP, TREE, GATE, CAP, DELTA,
                )  # fmt: skip
    else:
        part -= KEYS
        if rank * TILE < Tq:
            first = tl.load(query_tiles_ptr + rank) * TILE + (QUERIES - 1 - part % QUERIES) * BM
            if first < Tq:
                _queries(
                    first, kv_head * G + part // QUERIES, q_desc, dout_desc, out_desc, k_steps, v_steps, dq_desc,
                    lse_ptr, delta_ptr, key_start_ptr, key_stop_ptr, query_stop_ptr, gate_ptr, scale, cap, Tq, Tk, G,
                    BM, BN2, DP, TREE, GATE, CAP, DELTA,
                )  # fmt: skip
