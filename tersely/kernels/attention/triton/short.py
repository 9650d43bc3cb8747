"""Packed attention backward for short documents: one program for the queries and keys of the same tokens.

In ``backward`` a tile of tokens is read by two programs, as queries and as keys, and what both need of its products
is computed twice. With documents about as long as a tile most of the work is in the square of a tile with itself.
Here one program does that square once, for ``dQ``, ``dK`` and ``dV`` (5 products instead of 7), then goes on alone with
the keys before and after it, for ``dQ``, and with the queries before and after it, for ``dK`` and ``dV``. It adds up
``delta = rowsum(out * dout)`` itself from the rows that it has at hand, so there is no launch before it.

Each key head has one query head. For a group of them ``dK`` and ``dV`` would stay in registers while ``dQ`` is made:
tried with 4 and with 8 warps, and 1.8 times as slow as ``backward`` or worse.

Legend: as in ``forward``; ``W`` tokens of a program, ``BS`` tokens of a step outside of them.
"""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from tersely.kernels.attention.triton.forward import LOG2E


@triton.jit
def _log2_sums(lse_ptr, row, head, Tq):
    """``lse`` of rows in units of log 2; infinite where weights must come out as 0."""
    lse = tl.load(lse_ptr + head.to(tl.int64) * Tq + row, mask=(row >= 0) & (row < Tq), other=float("inf"))
    return tl.where(lse == float("-inf"), float("inf"), lse * LOG2E)


@triton.jit
def _seen(start_ptr, stop_ptr, first, token, tokens):
    """The interval of each token of a tile, as its start and length, and from where to where all of them reach."""
    start = tl.load(start_ptr + token, mask=token < tokens, other=0)
    stop = tl.load(stop_ptr + token, mask=token < tokens, other=0)
    begin = tl.load(start_ptr + first, mask=first < tokens, other=0)
    return start, tl.maximum(stop - start, 0).to(tl.uint32), begin, tl.max(stop, 0)


@triton.jit
def _own(ptr, stride, token, tokens, head, D: tl.constexpr, DP: tl.constexpr):
    """The tile of a program, by threads: outside of loops the copy engine is waited for at each tile, these overlap."""
    place = tl.arange(0, DP)
    at = ptr + token.to(tl.int64)[:, None] * stride + head * D + place[None, :]
    return tl.load(at, mask=(token < tokens)[:, None] & (place < D)[None, :], other=0.0)


@triton.jit
def _beside(i, before, first, W: tl.constexpr, BS: tl.constexpr):
    """Where step ``i`` begins: ``before`` of them end at ``first``, nearest first, the others begin behind the tile."""
    return tl.where(i < before, first - (i + 1) * BS, first + W + (i - before) * BS)


@triton.jit
def _steps(begin, end, first, W: tl.constexpr, BS: tl.constexpr):
    """Steps before and after a tile that cover ``begin`` to ``end``."""
    before = tl.where(begin < end, tl.cdiv(tl.maximum(first - begin, 0), BS), 0)
    after = tl.cdiv(tl.maximum(end - first - W, 0), BS)
    return before, after


@triton.jit
def _weights(x, lse2, unit, index, start, span):
    """Softmax weights again from products ``x``; 0 where ``index`` lies outside of ``start`` to ``start + span``."""
    return tl.where((index - start).to(tl.uint32) < span, tl.math.exp2(x * unit - lse2), 0.0)


@triton.jit
def _keys_beside(
    dq, q, dout, k_steps, v_steps, lse2, delta, first, head, begin, end, row_start, row_span, unit,
    W: tl.constexpr, BS: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Adds to ``dq`` what the keys outside of the tile give."""
    before, after = _steps(begin, end, first, W, BS)
    for i in tl.range(0, before + after):
        kv = _beside(i, before, first, W, BS)
        key = kv + tl.arange(0, BS)
        k = k_steps.load([kv, head * D])
        p = _weights(tl.dot(q, k.T), lse2[:, None], unit, key[None, :], row_start[:, None], row_span[:, None])
        v = v_steps.load([kv, head * D])
        ds = p * (tl.dot(dout, v.T) - delta[:, None])
        dq = tl.dot(ds.to(q.dtype), k, dq)
    return dq


@triton.jit
def _queries_beside(
    dk, dv, k, v, q_steps, dout_steps, out_steps, lse_ptr, first, head, begin, end, column_start, column_span, unit, Tq,
    W: tl.constexpr, BS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """Adds to ``dk`` and ``dv`` what the queries outside of the tile give; scores transposed, keys are rows."""
    before, after = _steps(begin, end, first, W, BS)
    for i in tl.range(0, before + after):
        m = _beside(i, before, first, W, BS)
        query = m + tl.arange(0, BS)
        q = q_steps.load([m, head * D])
        lse2 = _log2_sums(lse_ptr, query, head, Tq)
        p = _weights(
            tl.dot(k, q.T), lse2[None, :], unit, query[None, :], column_start[:, None], column_span[:, None]
        )
        dout = dout_steps.load([m, head * D])
        dv = tl.dot(p.to(dout.dtype), dout, dv)
        out = out_steps.load([m, head * D])
        products = out.to(tl.float32) * dout.to(tl.float32)
        if D != DP:
            products = tl.where(tl.arange(0, DP)[None, :] < D, products, 0.0)
        ds = p * (tl.dot(v, dout.T) - tl.sum(products, 1)[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk)
    return dk, dv


@triton.jit(do_not_specialize=["Tq", "Tk", "H", "tiles", "HEADS_TOGETHER"])
def attention_backward_short(
    q_ptr, dout_ptr, out_ptr, k_ptr, v_ptr, q_stride, dout_stride, out_stride, k_stride, v_stride,
    q_steps, dout_steps, out_steps, k_steps, v_steps, dq_desc, dk_desc, dv_desc,
    lse_ptr, key_start_ptr, key_stop_ptr, query_start_ptr, query_stop_ptr, scale, Tq, Tk, H, tiles, HEADS_TOGETHER,
    W: tl.constexpr, BS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """``dq`` ``(Tq, H, D)``, ``dk`` and ``dv`` ``(Tk, H, D)``."""
    group = tl.program_id(0) // (tiles * HEADS_TOGETHER)
    together = tl.minimum(HEADS_TOGETHER, H - group * HEADS_TOGETHER)
    rest = tl.program_id(0) - group * tiles * HEADS_TOGETHER
    head = group * HEADS_TOGETHER + rest % together
    first = rest // together * W
    token = first + tl.arange(0, W)
    row_start, row_span, begin, end = _seen(key_start_ptr, key_stop_ptr, first, token, Tq)
    column_start, column_span, query_begin, query_end = _seen(
        query_start_ptr, query_stop_ptr, first, token, Tk
    )
    q = _own(q_ptr, q_stride, token, Tq, head, D, DP)
    k = _own(k_ptr, k_stride, token, Tk, head, D, DP)
    dout = _own(dout_ptr, dout_stride, token, Tq, head, D, DP)
    v = _own(v_ptr, v_stride, token, Tk, head, D, DP)
    out = _own(out_ptr, out_stride, token, Tq, head, D, DP)
    delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    lse2 = _log2_sums(lse_ptr, token, head, Tq)
    unit = scale * LOG2E
    p = _weights(tl.dot(q, k.T), lse2[:, None], unit, token[None, :], row_start[:, None], row_span[:, None])
    ds = (p * (tl.dot(dout, v.T) - delta[:, None])).to(q.dtype)
    p = p.to(q.dtype)
    dq = _keys_beside(
        tl.dot(ds, k), q, dout, k_steps, v_steps, lse2, delta, first, head, begin, end, row_start, row_span, unit, W, BS, D
    )  # fmt: skip
    dq_desc.store([first, head, 0], (dq * scale).to(dq_desc.dtype).reshape(W, 1, DP))
    dk, dv = _queries_beside(
        tl.dot(ds.T, q), tl.dot(p.T, dout), k, v, q_steps, dout_steps, out_steps, lse_ptr, first, head, query_begin,
        query_end, column_start, column_span, unit, Tq, W, BS, D, DP,
    )  # fmt: skip
    dk_desc.store([first, head, 0], (dk * scale).to(dk_desc.dtype).reshape(W, 1, DP))
    dv_desc.store([first, head, 0], dv.to(dv_desc.dtype).reshape(W, 1, DP))
