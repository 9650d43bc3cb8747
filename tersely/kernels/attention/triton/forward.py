"""Packed attention forward in portable Triton: tiles over tokens, boundaries from two vectors.

A program owns ``BM`` consecutive queries of one head, whatever documents they belong to, and walks the keys from
``key_start`` of its first row to ``key_stop`` of its last. Neither end goes back from row to row, so the tiles in the
middle, which every row sees whole, need no mask: three loops, and only the outer two compare indices. In a tree one loop
compares always, and leaves out tiles of other branches.

Scores are kept in units of log 2: ``exp2(x * unit - m * unit)``, where ``unit`` is ``scale * log2(e)`` for plain
scores, and 1 where a soft-cap, a gate or a bias has already brought them there.

Legend: ``Tq``, ``Tk`` packed tokens, ``H`` heads, ``G`` query heads for each key head, ``D`` head dimension (``DP``
rounded up to a power of two), ``BM`` queries and ``BN`` keys of a tile.
"""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from tersely.kernels.attention.triton.distance import bias_of, positions_of, side_of

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
TILE = tl.constexpr(128)


@triton.jit
def place(pid, tiles, tiles_ptr, heads, HEADS_TOGETHER, BLOCK: tl.constexpr):
    """The first token and the head of program ``pid``: a few heads at a time go through all tiles in order."""
    blocks = tiles * (TILE // BLOCK)
    group = pid // (blocks * HEADS_TOGETHER)
    together = tl.minimum(HEADS_TOGETHER, heads - group * HEADS_TOGETHER)
    rest = pid - group * blocks * HEADS_TOGETHER
    head = group * HEADS_TOGETHER + rest % together
    rank = rest // together
    tile = tl.load(tiles_ptr + rank // (TILE // BLOCK))
    return tile * TILE + (TILE // BLOCK - 1 - rank % (TILE // BLOCK)) * BLOCK, head


@triton.jit
def own(desc, first, head, D: tl.constexpr, DP: tl.constexpr):
    """The tile that a program keeps, with zeros where its rounded-up width reaches into the next head.

    These zeros are in one factor of every product over the head dimension, so the tiles that stream by need none.
    """
    x = desc.load([first, head * D])
    if D != DP:
        x = tl.where(tl.arange(0, DP)[None, :] < D, x, 0.0)
    return x


@triton.jit
def reaches(query_stop_ptr, kv, first, Tk, BN: tl.constexpr):
    """Whether a key from ``kv`` to ``kv + BN`` is seen past query ``first``: other branches of a tree are not."""
    key = kv + tl.arange(0, BN)
    return tl.max(tl.load(query_stop_ptr + key, mask=key < Tk, other=0), 0) > first


@triton.jit
def tanh(x):
    """By one exponential, so that it runs everywhere."""
    return 1.0 - 2.0 / (tl.math.exp2(x * (2.0 * LOG2E)) + 1.0)


@triton.jit
def _step(
    acc, norm, peak, q, k_desc, v_desc, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
    scale, cap, unit, Tk, distances,
    BN: tl.constexpr, D: tl.constexpr, MASKED: tl.constexpr, TREE: tl.constexpr, GATE: tl.constexpr, CAP: tl.constexpr,
    BIAS: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Online softmax over keys ``kv`` to ``kv + BN``."""
    k = k_desc.load([kv, kv_head * D])
    x = tl.dot(q, k.T)
    column = tl.arange(0, BN)
    if CAP:
        x = tanh(x * (scale / cap)) * (cap * LOG2E)
    elif GATE or BIAS:
        x = x * (scale * LOG2E)
    if BIAS:
        table_ptr, position, low, high, key_positions_ptr = distances
        key = positions_of(key_positions_ptr, kv, Tk, BN)
        side = side_of(low, high, key, R, BN)
        x += bias_of(table_ptr, position[:, None], key[None, :], side, R, x.shape[0], BN) * LOG2E
    if GATE:
        x += tl.load(gate_ptr + kv + column, mask=kv + column < Tk, other=0.0).to(tl.float32)[None, :] * LOG2E
    if MASKED:
        seen = (column[None, :] + (kv - row_start)[:, None]).to(tl.uint32) < row_span[:, None]
        if TREE:
            stop = tl.load(query_stop_ptr + kv + column, mask=kv + column < Tk, other=0)
            seen = seen & (row[:, None] < stop[None, :])
        x = tl.where(seen, x, float("-inf"))
    higher = tl.maximum(peak, tl.max(x, 1))
    offset = higher * unit
    if MASKED:
        offset = tl.where(higher == float("-inf"), 0.0, offset)
    p = tl.math.exp2(x * unit - offset[:, None])
    shrink = tl.math.exp2(peak * unit - offset)
    norm = norm * shrink + tl.sum(p, 1)
    acc = acc * shrink[:, None]
    v = v_desc.load([kv, kv_head * D])
    return tl.dot(p.to(v.dtype), v, acc), norm, higher


@triton.jit(do_not_specialize=["Tq", "Tk", "H", "G", "tiles", "HEADS_TOGETHER"])
def attention_forward(
    q_desc, k_desc, v_desc, out_desc, lse_ptr, key_start_ptr, key_stop_ptr, query_stop_ptr, tiles_ptr, gate_ptr, sink_ptr,
    scale, cap, Tq, Tk, H, G, tiles, HEADS_TOGETHER, bias_ptr, query_positions_ptr, key_positions_ptr,
    BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    TREE: tl.constexpr, GATE: tl.constexpr, CAP: tl.constexpr, SINK: tl.constexpr, BIAS: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """``out`` ``(Tq, H, D)`` and ``lse`` ``(H, Tq)``, fp32, natural logarithm; rows that see nothing: 0 and -inf."""
    first, head = place(tl.program_id(0), tiles, tiles_ptr, H, HEADS_TOGETHER, BM)
    if first >= Tq:
        return
    last = tl.minimum(first + BM, Tq) - 1
    row = first + tl.arange(0, BM)
    inside = row < Tq
    row_start = tl.load(key_start_ptr + row, mask=inside, other=0)
    row_stop = tl.load(key_stop_ptr + row, mask=inside, other=0)
    row_span = tl.maximum(row_stop - row_start, 0).to(tl.uint32)
    begin = tl.load(key_start_ptr + first)
    end = tl.load(key_stop_ptr + last)
    unit = 1.0 if (CAP or GATE or BIAS) else scale * LOG2E
    kv_head = head // G
    q = own(q_desc, first, head, D, DP)
    distances = None
    if BIAS:
        position = positions_of(query_positions_ptr, first, Tq, BM)
        table_ptr = bias_ptr + head * (2 * R + 1) + R
        distances = (table_ptr, position, tl.min(position, 0), tl.max(position, 0), key_positions_ptr)
    acc = tl.zeros([BM, DP], tl.float32)
    if SINK:
        peak = tl.zeros([BM], tl.float32) + tl.load(sink_ptr + head).to(tl.float32) * LOG2E / unit
        norm = tl.full([BM], 1.0, tl.float32)
    else:
        peak = tl.full([BM], float("-inf"), tl.float32)
        norm = tl.zeros([BM], tl.float32)
    if TREE:
        for kv in tl.range(begin, end, BN):
            if reaches(query_stop_ptr, kv, first, Tk, BN):
                acc, norm, peak = _step(
                    acc, norm, peak, q, k_desc, v_desc, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
                    scale, cap, unit, Tk, distances, BN, D, True, True, GATE, CAP, BIAS, R,
                )  # fmt: skip
    elif BIAS:
        for kv in tl.range(begin, end, BN):
            acc, norm, peak = _step(
                acc, norm, peak, q, k_desc, v_desc, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
                scale, cap, unit, Tk, distances, BN, D, True, False, GATE, CAP, BIAS, R,
            )  # fmt: skip
    else:
        shared_start = tl.minimum(tl.load(key_start_ptr + last), end)  # from here on every row sees all,
        shared_stop = tl.load(key_stop_ptr + first)  # up to here
        whole_from = begin + tl.cdiv(tl.maximum(shared_start - begin, 0), BN) * BN
        whole_to = whole_from + tl.maximum(shared_stop - whole_from, 0) // BN * BN
        for kv in tl.range(begin, whole_from, BN):
            acc, norm, peak = _step(
                acc, norm, peak, q, k_desc, v_desc, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
                scale, cap, unit, Tk, distances, BN, D, True, False, GATE, CAP, BIAS, R,
            )  # fmt: skip
        for kv in tl.range(whole_from, whole_to, BN):
            acc, norm, peak = _step(
                acc, norm, peak, q, k_desc, v_desc, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
                scale, cap, unit, Tk, distances, BN, D, False, False, GATE, CAP, BIAS, R,
            )  # fmt: skip
        for kv in tl.range(whole_to, end, BN):
            acc, norm, peak = _step(
                acc, norm, peak, q, k_desc, v_desc, gate_ptr, query_stop_ptr, kv, kv_head, row, row_start, row_span,
                scale, cap, unit, Tk, distances, BN, D, True, False, GATE, CAP, BIAS, R,
            )  # fmt: skip
    blind = norm == 0.0
    lse = tl.where(blind, float("-inf"), (peak * unit + tl.math.log2(norm)) * LN2)
    tl.store(lse_ptr + head.to(tl.int64) * Tq + row, lse, mask=inside)
    out = acc * tl.where(blind, 0.0, 1.0 / norm)[:, None]
    out_desc.store([first, head, 0], out.to(out_desc.dtype).reshape(BM, 1, DP))
