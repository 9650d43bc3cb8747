# Gluon's names mean other types to the compiler than to a type checker.
# pyright: basic, reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
"""Packed attention backward for Hopper: keys stay, queries stream by, and dQ is summed in memory by the copy engine.

One program takes 128 consecutive packed keys of one key head. Its two warpgroups hold the gradients of 64 keys and
values each in registers, over all query heads of the group; a producer warp streams the queries that see these
keys, and their output gradients. The two write dS to shared memory, meet, and each computes one half of the tile
of dQ from the whole dS, which the copy engine adds to a float32 buffer. `prepare` zeroes that buffer and sums
out * dout of each row before, `finish` rounds it after.

T packed tokens (Tq queries, Tk keys), H heads, D head dimension, BM queries in a tile, ST stages of queries in
shared memory. Scores stand transposed, keys in rows: P^T = exp2(K Q^T - lse).
"""

import triton
import triton.language as tl

from tersely.kernels.attention.hopper.gluon import (
    constexpr_function,
    fence_async_shared,
    gl,
    jit,
    mbarrier,
    meet,
    reduce_tile,
    store_tile,
    stores_read,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from tersely.kernels.attention.hopper.ring import new_ring

BARRIER = gl.constexpr(9)


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
def finish(dq, out, scale, Tq, blocks, H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr):
    """DQ of BM rows of one head: from the order of `by_thread`, scaled and rounded."""
    head = (tl.program_id(0) % H).to(tl.int64)
    block = tl.program_id(0) // H
    row0 = block * BM
    row = tl.arange(0, BM)[:, None]
    column = tl.arange(0, D)[None, :]
    N: tl.constexpr = D * BM // 128
    half = column // N if BM == 64 else row // 64
    thread = row % 64 // 16 * 32 + row % 8 * 4 + column // 2 % 4
    register = column % N // 8 * 4 + row // 8 % 2 * 2 + column % 2
    tile = head * (blocks * (128 // BM)) + block
    x = tl.load(dq + tile * (BM * D) + half * (64 * N) + thread * (N // 2) + register)
    at = ((row0 + row).to(tl.int64) * H + head) * D + column
    tl.store(out + at, (x * scale).to(out.dtype.element_ty), row0 + row < Tq)


@jit
def produce(
    q_desc, do_desc, k_desc, v_desc, q_stride, do_stride, k_stride, v_stride, lse_ptr, delta_ptr, q_ring, do_ring,
    k_ring, v_ring, lse_tiles, delta_tiles, n0, kv_head, group, b0, n, blocks, BM: gl.constexpr, D: gl.constexpr,
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
            q_ring.fill(t, q_desc, qb, head * q_stride, BM * D * 2)
            if t == 0:
                for c in gl.static_range(2):
                    v_ring.fill(c, v_desc, n0 + c * 64, kv_head * v_stride, 64 * D * 2)
            do_ring.fill(t, do_desc, qb, head * do_stride, BM * D * 2)
            s = t % q_ring.stages
            lse_tiles.index(s).store(lse)
            delta_tiles.index(s).store(delta)
            mbarrier.arrive(q_ring.full.index(s), count=1)
            t += 1


@jit
def half_of_dq(c: gl.constexpr, ds_tiles, k_ring, t, BM: gl.constexpr, N: gl.constexpr):
    """Issue the products for (64, N) of dQ: half the columns where BM is 64, half the rows where it is 128."""
    dq = gl.zeros([64, N], gl.float32, layout=gl.NVMMADistributedLayout([3, 0], [4, 1], [16, N, 16]))
    for h in gl.static_range(2):
        ds = ds_tiles.index((t & 1) * 2 + h)
        k = k_ring.tiles.index(h)
        if BM == 64:
            k = k.slice(c * N, N, dim=1)
        else:
            ds = ds.slice(c * 64, 64, dim=1)
        dq = warpgroup_mma(ds.permute((1, 0)), k, dq, use_acc=h == 1, is_async=True)
    return dq


@constexpr_function
def registers_first(n):
    """Layout of (128, n): each thread a row."""
    bases = [[0, 1 << i] for i in range(n.bit_length() - 1)]
    lanes = [[1 << i, 0] for i in range(5)]
    return gl.DistributedLinearLayout(bases, lanes, [[32, 0], [64, 0]], [], [128, n])


@jit
def by_thread(x, N: gl.constexpr):
    """A (64, N) accumulator as (128 threads, N / 2 registers): whole rows for the copy engine, no bank conflicts.

    The float32 buffer of dQ holds tiles in this order, and `finish` undoes it.
    """
    ROW: gl.constexpr = registers_first(N // 2)
    x = gl.permute(gl.reshape(x, [4, 2, 8, N // 8, 4, 2]), (0, 2, 4, 3, 1, 5))
    return gl.convert_layout(gl.reshape(x, [128, N // 2]), ROW, assert_trivial=True)


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
def consume(
    c: gl.constexpr, dq_desc, dk_desc, dv_desc, query_start, query_stop, q_ring, do_ring, k_ring, v_ring, lse_tiles,
    delta_tiles, ds_tiles, dq_tile, n0, kv_head, group, b0, n, Tk, blocks, scale2, scale,
    BM: gl.constexpr, D: gl.constexpr,
):  # fmt: skip
    """Warpgroup c: gradients of keys and values n0 + 64 c to n0 + 64 c + 63."""
    dtype: gl.constexpr = dk_desc.dtype
    S: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BM, 16])
    ACC: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    P: gl.constexpr = gl.DotOperandLayout(0, ACC, 2)
    N: gl.constexpr = D * BM // 128
    COLUMN: gl.constexpr = gl.SliceLayout(0, S)
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
    k_ring.wait(1 - c)
    k = k_ring.wait(c)
    total = n * group
    q = q_ring.wait(0, pred=total > 0)
    s_next = warpgroup_mma(k, q.permute((1, 0)), zero, use_acc=False, is_async=True)
    v = v_ring.tiles.index(c)
    mbarrier.wait(v_ring.full.index(c), 0, pred=total > 0)
    i = 0
    row = kv_head * group * (blocks * (128 // BM)) + b0  # of the tile of queries among those of all heads
    for t in range(total):
        qb = (b0 + i) * BM
        stage = t % q_ring.stages
        q = q_ring.tiles.index(stage)
        do = do_ring.wait(t)
        lse = lse_tiles.index(stage).load(COLUMN)
        s = warpgroup_mma_wait(0, deps=(s_next,))
        dp = warpgroup_mma(v, do.permute((1, 0)), zero, use_acc=False, is_async=True)
        p = gl.exp2(s * scale2 - lse[None, :])
        if (qb < last_start) | (qb + BM > first_stop):
            column = gl.arange(0, BM, layout=COLUMN)
            seen = (column[None, :] + (qb - start)[:, None]).to(gl.uint32) < width[:, None]
            p = gl.where(seen, p, 0.0)
        pb = gl.convert_layout(p.to(dtype), P)
        dv_next = warpgroup_mma(pb, do, dv, is_async=True)
        delta = delta_tiles.index(stage).load(COLUMN)
        p = unpack(gl.convert_layout(pb, S, assert_trivial=True))
        dp = warpgroup_mma_wait(1, deps=(dp,))
        ds = (p * (dp - delta[None, :])).to(dtype)
        # two pairs of buffers: the other warpgroup may still read those of the tile before
        ds_tiles.index((t & 1) * 2 + c).store(ds)
        fence_async_shared()
        meet(BARRIER)
        dq = half_of_dq(c, ds_tiles, k_ring, t, BM, N)
        dk_next = warpgroup_mma(ds_tiles.index((t & 1) * 2 + c), q, dk, is_async=True)
        dv, pb = warpgroup_mma_wait(3, deps=(dv_next, pb))
        do_ring.release(t)
        q = q_ring.wait(t + 1, pred=t + 1 < total)
        # past the last tile this multiplies what is left in the buffers, and nobody looks at it
        s_next = warpgroup_mma(k, q.permute((1, 0)), zero, use_acc=False, is_async=True)
        dq = warpgroup_mma_wait(2, deps=(dq,))
        stores_read(0)
        dq_tile.store(by_thread(dq, N))
        fence_async_shared()
        reduce_tile(dq_desc, [(row * 2 + c) * 128, 0], dq_tile)
        dk = warpgroup_mma_wait(1, deps=(dk_next,))
        q_ring.release(t)
        i += 1
        row += 1
        if i == n:
            i = 0
            row += blocks * (128 // BM) - n
    s = warpgroup_mma_wait(0, deps=(s_next,))
    meet(BARRIER)  # the other warpgroup multiplies with these keys, too
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
    BM: gl.constexpr, D: gl.constexpr, ST: gl.constexpr,
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
    do_ring = new_ring(do_desc, ST, 2)
    k_ring = new_ring(k_desc, 2, 1)
    v_ring = new_ring(v_desc, 2, 1)
    PLAIN: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    lse_tiles = gl.allocate_shared_memory(gl.float32, [ST, BM], PLAIN)
    delta_tiles = gl.allocate_shared_memory(gl.float32, [ST, BM], PLAIN)
    DS: gl.constexpr = gl.NVMMASharedLayout.get_default_for([64, BM], q_desc.dtype)
    ds_tiles = gl.allocate_shared_memory(q_desc.dtype, [4, 64, BM], DS)
    dq_tiles = gl.allocate_shared_memory(gl.float32, [2, 128, dq_desc.block_shape[1]], dq_desc.layout)
    fence_async_shared()
    gl.warp_specialize(
        [
            (consume, (0, dq_desc, dk_desc, dv_desc, query_start, query_stop, q_ring, do_ring, k_ring, v_ring,
                       lse_tiles, delta_tiles, ds_tiles, dq_tiles.index(0), n0, kv_head, group, b0, n, Tk, blocks,
                       scale2, scale, BM, D)),
            (consume, (1, dq_desc, dk_desc, dv_desc, query_start, query_stop, q_ring, do_ring, k_ring, v_ring,
                       lse_tiles, delta_tiles, ds_tiles, dq_tiles.index(1), n0, kv_head, group, b0, n, Tk, blocks,
                       scale2, scale, BM, D)),
            (produce, (q_desc, do_desc, k_desc, v_desc, q_stride, do_stride, k_stride, v_stride, lse_ptr, delta_ptr,
                       q_ring, do_ring, k_ring, v_ring, lse_tiles, delta_tiles, n0, kv_head, group, b0, n, blocks,
                       BM, D)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
