# Gluon's names mean other types to the compiler than to a type checker.
# pyright: basic, reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
"""Packed attention backward for Hopper: keys stay, queries stream by, and dQ is summed in memory by the copy engine.

One program takes 128 consecutive packed keys of one key head. Two of its warpgroups hold the gradients of 64 keys
and values each in registers, over all query heads of the group; a producer warp streams the queries that see these
keys, and their output gradients. The two write dS to shared memory, and go on; a third warpgroup makes dQ of it,
which the copy engine adds to a float32 buffer. So neither of the two waits for the other, and the slow way of dQ
through shared memory stands in nobody's way. `prepare` zeroes that buffer and sums out * dout of each row before,
`finish` rounds it after.

T packed tokens (Tq queries, Tk keys), H heads, D head dimension, BM = 64 queries in a tile, ST stages of queries
in shared memory. Scores stand transposed, keys in rows: P^T = exp2(K Q^T - lse).
"""

import triton
import triton.language as tl

from tersely.kernels.attention.hopper.gluon import (
    constexpr_function,
    fence_async_shared,
    gl,
    jit,
    load_tile,
    mbarrier,
    reduce_tile,
    store_tile,
    stores_read,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from tersely.kernels.attention.hopper.ring import new_ring, with_barriers

BM = gl.constexpr(64)


@triton.jit(do_not_specialize=["Tq", "blocks"])
def prepare(
    out, dout, lse, dq, lse2, delta, out_row, out_head, dout_row, dout_head, Tq, blocks,
    H: tl.constexpr, D: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """R rows of one head: delta = sum(out * dout), lse in base 2 (+inf: this row sees nothing), dq = 0."""
    head = (tl.program_id(0) % H).to(tl.int64)
    row = tl.program_id(0) // H * R + tl.arange(0, R)
    inside = row < Tq
    d = tl.arange(0, D)
    o = tl.load(
        out + row.to(tl.int64)[:, None] * out_row + head * out_head + d[None, :], inside[:, None], 0.0
    )
    g = tl.load(
        dout + row.to(tl.int64)[:, None] * dout_row + head * dout_head + d[None, :], inside[:, None], 0.0
    )
    at = head * (blocks * 128) + row
    tl.store(delta + at, tl.sum(o.to(tl.float32) * g.to(tl.float32), 1))
    natural = tl.load(lse + head * Tq + row, inside, float("-inf"))
    tl.store(lse2 + at, tl.where(natural == float("-inf"), float("inf"), natural * 1.4426950408889634))
    tl.store(dq + at[:, None] * D + d[None, :], tl.zeros([R, D], tl.float32))


@triton.jit(do_not_specialize=["Tq", "blocks"])
def finish(dq, out, scale, Tq, blocks, H: tl.constexpr, D: tl.constexpr, R: tl.constexpr):
    """DQ of R = 64 rows of one head: from the order of `by_thread`, scaled and rounded."""
    head = (tl.program_id(0) % H).to(tl.int64)
    block = tl.program_id(0) // H
    row = tl.arange(0, R)[:, None]
    column = tl.arange(0, D)[None, :]
    thread = row // 16 * 32 + row % 8 * 4 + column // 2 % 4
    register = column % 64 // 8 * 4 + row // 8 % 2 * 2 + column % 2
    tile = head * (blocks * 2) + block
    x = tl.load(dq + tile * (R * D) + column // 64 * (64 * R) + thread * 32 + register)
    at = ((block * R + row).to(tl.int64) * H + head) * D + column
    tl.store(out + at, (x * scale).to(out.dtype.element_ty), block * R + row < Tq)


@jit
def produce(
    q_desc, do_desc, k_desc, v_desc, q_stride, do_stride, k_stride, v_stride, lse_ptr, delta_ptr, q_ring, do_tiles,
    k_ring, v_ring, lse_tiles, delta_tiles, n0, kv_head, group, b0, n, blocks, D: gl.constexpr,
):  # fmt: skip
    """The producer warp: the keys and values once, then the queries of each head of the group."""
    for c in gl.static_range(2):
        k_ring.fill(c, k_desc, n0 + c * 64, kv_head * k_stride, 64 * D * 2)
    column = gl.arange(0, BM, layout=gl.BlockedLayout([BM // 32], [32], [1], [0]))
    t = 0
    for g in range(group):
        head = kv_head * group + g
        row = head.to(gl.int64) * (blocks * 128) + column
        for i in range(n):
            qb = (b0 + i) * BM
            lse = gl.load(lse_ptr + row + qb)
            delta = gl.load(delta_ptr + row + qb)
            s = t % q_ring.stages
            q_ring.fill(t, q_desc, qb, head * q_stride, 2 * BM * D * 2)
            load_tile(do_desc, [qb, head * do_stride], q_ring.full.index(s), do_tiles.index(s))
            if t == 0:
                for c in gl.static_range(2):
                    v_ring.fill(c, v_desc, n0 + c * 64, kv_head * v_stride, 64 * D * 2)
            lse_tiles.index(s).store(lse)
            delta_tiles.index(s).store(delta)
            q_ring.hand_over(t)
            t += 1


@constexpr_function
def registers_first(n):
    """Layout of (128, n): each thread a row."""
    bases = [[0, 1 << i] for i in range(n.bit_length() - 1)]
    lanes = [[1 << i, 0] for i in range(5)]
    return gl.DistributedLinearLayout(bases, lanes, [[32, 0], [64, 0]], [], [128, n])


@jit
def by_thread(x):
    """A (64, 64) accumulator as (128 threads, 32 registers): whole rows for the copy engine, no bank conflicts.

    The float32 buffer of dQ holds tiles in this order, and `finish` undoes it.
    """
    ROW: gl.constexpr = registers_first(32)
    x = gl.permute(gl.reshape(x, [4, 2, 8, 8, 4, 2]), (0, 2, 4, 3, 1, 5))
    return gl.convert_layout(gl.reshape(x, [128, 32]), ROW, assert_trivial=True)


@jit
def sum_dq(dq_desc, ds_ring, k_ring, dq_tiles, kv_head, group, b0, n, blocks, D: gl.constexpr):
    """The third warpgroup: dQ of each tile of queries, added to memory 64 columns at a time."""
    PARTS: gl.constexpr = D // 64
    ACC: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 16])
    zero = gl.zeros([BM, 64], gl.float32, layout=ACC)
    k_ring.wait(0)
    k_ring.wait(1)
    i = 0
    row = kv_head * group * (blocks * 2) + b0  # of the tile of queries among those of all heads
    for t in range(n * group):
        ds = ds_ring.wait(t)
        for part in gl.static_range(PARTS):
            dq = zero
            for h in gl.static_range(2):
                k = k_ring.tiles.index(h).slice(part * 64, 64, dim=1)
                dq = warpgroup_mma(
                    ds.slice(h * 64, 64, dim=0).permute((1, 0)), k, dq, use_acc=h == 1, is_async=True
                )
            dq = warpgroup_mma_wait(0, deps=(dq,))
            if part == PARTS - 1:
                ds_ring.release(t)
            stores_read(PARTS - 1)
            dq_tiles.index(part).store(by_thread(dq))
            fence_async_shared()
            reduce_tile(dq_desc, [(row * PARTS + part) * 128, 0], dq_tiles.index(part))
        i += 1
        row += 1
        if i == n:
            i = 0
            row += blocks * 2 - n
    stores_read(0)


@constexpr_function
def unpack_code(dtype):
    """PTX of `unpack`."""
    if dtype == gl.bfloat16:
        return "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;"
    return "{ .reg .b16 lo, hi; mov.b32 {lo, hi}, $2; cvt.f32.f16 $0, lo; cvt.f32.f16 $1, hi; }"


@jit
def unpack(x):
    """Pairs of half precision to float32; the compiler's own conversion would undo their packing, too."""
    code: gl.constexpr = unpack_code(x.dtype)
    return gl.inline_asm_elementwise(code, "=r,=r,r", [x], dtype=gl.float32, is_pure=True, pack=2)


@jit
def first_column(x):
    """X plus the first column of the calling thread; opaque, or the compiler keeps x + column for each column."""
    code: gl.constexpr = (
        "{ .reg .b32 c; mov.u32 c, %tid.x; and.b32 c, c, 3; shl.b32 c, c, 1; add.s32 $0, $1, c; }"
    )
    return gl.inline_asm_elementwise(code, "=r,r", [x], dtype=gl.int32, is_pure=False, pack=1)


@jit
def masked(p, first, width, S: gl.constexpr):
    """P (64 keys, BM queries) where 0 <= first + column < width, and 0 elsewhere."""
    p = gl.reshape(p, [64, BM // 8, 4, 2])  # 4: threads; what a thread adds to its first column is a constant
    P4: gl.constexpr = p.type.layout
    ROW: gl.constexpr = gl.SliceLayout(1, gl.SliceLayout(2, gl.SliceLayout(3, P4)))
    EIGHT: gl.constexpr = gl.SliceLayout(0, gl.SliceLayout(2, gl.SliceLayout(3, P4)))
    PAIR: gl.constexpr = gl.SliceLayout(0, gl.SliceLayout(1, gl.SliceLayout(2, P4)))
    first = gl.convert_layout(first_column(first), ROW, assert_trivial=True)[:, None, None, None]
    width = gl.convert_layout(width, ROW, assert_trivial=True)[:, None, None, None]
    column = gl.arange(0, BM // 8, layout=EIGHT)[None, :, None, None] * 8
    column += gl.arange(0, 2, layout=PAIR)[None, None, None, :]
    seen = (first + column).to(gl.uint32) < width
    return gl.convert_layout(gl.reshape(gl.where(seen, p, 0.0), [64, BM]), S, assert_trivial=True)


@jit
def consume(
    c: gl.constexpr, dk_desc, dv_desc, query_start, query_stop, q_ring, do_tiles, k_ring, v_ring, lse_tiles,
    delta_tiles, ds_ring, n0, kv_head, group, b0, n, Tk, scale2, scale, D: gl.constexpr,
):  # fmt: skip
    """Warpgroup c of the first two: gradients of keys and values n0 + 64 c to n0 + 64 c + 63."""
    dtype: gl.constexpr = dk_desc.dtype
    S: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BM, 16])
    ACC: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    P: gl.constexpr = gl.DotOperandLayout(0, ACC, 2)
    COLUMN: gl.constexpr = gl.SliceLayout(0, S)
    EARLY: gl.constexpr = D == 64  # there are registers for lse before S is there, and for dP beside S
    r0 = n0 + c * 64
    key = r0 + gl.arange(0, 64, layout=gl.SliceLayout(1, S))
    start = gl.load(query_start + key, mask=key < Tk, other=0)
    stop = gl.load(query_stop + key, mask=key < Tk, other=0)
    width = gl.maximum(stop - start, 0).to(gl.uint32)
    # a tile of queries that starts below last_start, or ends past first_stop, needs the mask; so does any where
    # keys past the last are in the tile
    last_start = gl.load(query_start + gl.minimum(r0 + 63, Tk - 1))
    first_stop = gl.load(query_stop + gl.minimum(r0, Tk - 1))
    first_stop = gl.where(r0 + 64 <= Tk, first_stop, 0)
    zero = gl.zeros([64, BM], gl.float32, layout=S)
    dv = gl.zeros([64, D], gl.float32, layout=ACC)
    dk = gl.zeros([64, D], gl.float32, layout=ACC)
    k = k_ring.wait(c)
    total = n * group
    q = q_ring.wait(0, pred=total > 0)
    s_next = warpgroup_mma(k, q.permute((1, 0)), zero, use_acc=False, is_async=True)
    v = v_ring.tiles.index(c)
    mbarrier.wait(v_ring.full.index(c), 0, pred=total > 0)
    i = 0
    for t in range(total):
        qb = (b0 + i) * BM
        stage = t % q_ring.stages
        q = q_ring.tiles.index(stage)
        do = do_tiles.index(stage)
        if EARLY:
            lse = lse_tiles.index(stage).load(COLUMN)
        s = warpgroup_mma_wait(0, deps=(s_next,))
        if EARLY:
            dp = warpgroup_mma(v, do.permute((1, 0)), zero, use_acc=False, is_async=True)
        else:
            lse = lse_tiles.index(stage).load(COLUMN)
        p = gl.exp2(s * scale2 - lse[None, :])
        if (qb < last_start) | (qb + BM > first_stop):
            p = masked(p, qb - start, width, S)
        pb = gl.convert_layout(p.to(dtype), P)
        if not EARLY:
            dp = warpgroup_mma(v, do.permute((1, 0)), zero, use_acc=False, is_async=True)
        dv_next = warpgroup_mma(pb, do, dv, is_async=True)
        delta = delta_tiles.index(stage).load(COLUMN)
        p = unpack(gl.convert_layout(pb, S, assert_trivial=True))
        dp = warpgroup_mma_wait(1, deps=(dp,))
        ds = ds_ring.free(t).slice(c * 64, 64, dim=0)
        ds.store((p * (dp - delta[None, :])).to(dtype))
        fence_async_shared()
        ds_ring.hand_over(t)
        dk_next = warpgroup_mma(ds, q, dk, is_async=True)
        dv, pb = warpgroup_mma_wait(1, deps=(dv_next, pb))
        q = q_ring.wait(t + 1, pred=t + 1 < total)
        # past the last tile this multiplies what is left in the buffers, and nobody looks at it
        s_next = warpgroup_mma(k, q.permute((1, 0)), zero, use_acc=False, is_async=True)
        dk = warpgroup_mma_wait(1, deps=(dk_next,))
        q_ring.release(t)
        i += 1
        if i == n:
            i = 0
    s = warpgroup_mma_wait(0, deps=(s_next,))
    ds_ring.free(total + 1)  # the third warpgroup has read the last dS, and multiplied these keys with it
    k.store((dk * scale).to(dtype))
    v.store(dv.to(dtype))
    fence_async_shared()
    store_tile(dk_desc, [r0, kv_head * D], k)
    store_tile(dv_desc, [r0, kv_head * D], v)
    stores_read(0)


@jit(
    do_not_specialize=[
        "Tk", "blocks", "heads", "group", "section", "n_tiles", "q_stride", "do_stride", "k_stride", "v_stride",
    ]
)  # fmt: skip
def attention_backward(
    q_desc, do_desc, k_desc, v_desc, dq_desc, dk_desc, dv_desc, lse_ptr, delta_ptr, query_start, query_stop, tiles,
    Tk, blocks, heads, group, section, n_tiles, q_stride, do_stride, k_stride, v_stride, scale2, scale,
    D: gl.constexpr, ST: gl.constexpr,
):  # fmt: skip
    """DK and dV of 128 keys of one of `heads` key heads.

    `lse_ptr` and `delta_ptr` have rows of `blocks` * 128, and dq_desc is float32 in tiles of
    `by_thread`, to which is added.
    """
    index = gl.program_id(0)
    per_section = n_tiles * section
    part = index // per_section
    rest = index - part * per_section
    width = gl.minimum(section, heads - part * section)
    n0 = gl.load(tiles + rest // width) * 128
    kv_head = part * section + rest % width
    first = gl.load(query_start + n0)
    stop = gl.load(query_stop + gl.minimum(n0 + 127, Tk - 1))
    b0 = first // BM  # tiles of queries are aligned: every program adds to the same tiles of dQ
    n = gl.where(stop > first, (stop + BM - 1) // BM - b0, 0)
    q_ring = new_ring(q_desc, ST, 2, 2)  # filled by the copy engine and by the warp, which adds lse and delta
    do_tiles = gl.allocate_shared_memory(do_desc.dtype, [ST, BM, D], do_desc.layout)  # come with the queries
    k_ring = new_ring(k_desc, 2, 1)
    v_ring = new_ring(v_desc, 2, 1)
    PLAIN: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    lse_tiles = gl.allocate_shared_memory(gl.float32, [ST, BM], PLAIN)
    delta_tiles = gl.allocate_shared_memory(gl.float32, [ST, BM], PLAIN)
    DS: gl.constexpr = gl.NVMMASharedLayout.get_default_for([128, BM], q_desc.dtype)
    ds_ring = with_barriers(gl.allocate_shared_memory(q_desc.dtype, [2, 128, BM], DS), 2, 1, 2)
    dq_tiles = gl.allocate_shared_memory(gl.float32, [D // 64, 128, 32], dq_desc.layout)
    fence_async_shared()
    gl.warp_specialize(
        [
            (consume, (0, dk_desc, dv_desc, query_start, query_stop, q_ring, do_tiles, k_ring, v_ring, lse_tiles,
                       delta_tiles, ds_ring, n0, kv_head, group, b0, n, Tk, scale2, scale, D)),
            (consume, (1, dk_desc, dv_desc, query_start, query_stop, q_ring, do_tiles, k_ring, v_ring, lse_tiles,
                       delta_tiles, ds_ring, n0, kv_head, group, b0, n, Tk, scale2, scale, D)),
            (sum_dq, (dq_desc, ds_ring, k_ring, dq_tiles, kv_head, group, b0, n, blocks, D)),
            (produce, (q_desc, do_desc, k_desc, v_desc, q_stride, do_stride, k_stride, v_stride, lse_ptr, delta_ptr,
                       q_ring, do_tiles, k_ring, v_ring, lse_tiles, delta_tiles, n0, kv_head, group, b0, n, blocks,
                       D)),
        ],
        [4, 4, 1],
        [208, 72, 24],
    )  # fmt: skip
