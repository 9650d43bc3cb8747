# Gluon's names mean other types to the compiler than to a type checker.
# pyright: basic, reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
"""Packed attention forward for Hopper: a producer warp feeds two warpgroups from a queue of work items.

An item is 128 consecutive packed queries of one head. A grid of one program for each multiprocessor draws items
from an atomic counter; the producer warp fetches their tiles with the copy engine, and each warpgroup holds 64
queries in registers and runs the online softmax. The product QK(i+1) runs under the softmax of tile i, PV(i)
under that of i+1, and an item's last product under the epilogue of the item and the first product of the next.

T packed tokens (Tq queries, Tk keys), H heads, D head dimension, BM = 128 queries and BN keys in a tile, ST
stages of keys and values in shared memory.
"""

from tersely.kernels.attention.hopper.gluon import (
    aggregate,
    constexpr_function,
    fence_async_shared,
    gl,
    jit,
    mbarrier,
    meet,
    pass_by,
    store_tile,
    stores_read,
    take_ticket,
    ticket_of,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from tersely.kernels.attention.hopper.ring import new_ring, with_barriers


@aggregate
class Work:
    """The items: which token tile and head an index stands for, and which keys its queries see."""

    key_start: gl.tensor
    key_stop: gl.tensor
    tiles: gl.tensor
    counter: gl.tensor
    Tq: gl.tensor
    heads: gl.tensor
    group: gl.tensor
    section: gl.tensor
    n_tiles: gl.tensor

    @constexpr_function
    def __init__(self, key_start, key_stop, tiles, counter, Tq, heads, group, section, n_tiles):
        self.key_start = key_start
        self.key_stop = key_stop
        self.tiles = tiles
        self.counter = counter
        self.Tq = Tq
        self.heads = heads
        self.group = group
        self.section = section
        self.n_tiles = n_tiles

    @jit
    def item(self, index):
        """First query and head: a section of heads after the other, so that their keys stay in the L2 cache."""
        per_section = self.n_tiles * self.section
        section = index // per_section
        rest = index - section * per_section
        width = gl.minimum(self.section, self.heads - section * self.section)
        rank = rest // width
        return gl.load(self.tiles + rank) * 128, section * self.section + rest % width

    @jit
    def keys(self, m0, BN: gl.constexpr):
        """First key that the 128 queries from m0 see, and in how many tiles (at least one) they all lie."""
        first = gl.load(self.key_start + m0)
        stop = gl.load(self.key_stop + gl.minimum(m0 + 127, self.Tq - 1))
        return first, gl.maximum((stop - first + BN - 1) // BN, 1)


@jit
def put(queue, i, index):
    """Tell the consumers that item number i of this program is `index`; -1 ends the work."""
    mbarrier.wait(queue.empty.index(i & 1), ((i >> 1) & 1) ^ 1)
    lanes = gl.full([1], 0, gl.int32, layout=gl.BlockedLayout([1], [32], [1], [0]))
    queue.tiles.index(i & 1).store(lanes + index)
    mbarrier.arrive(queue.full.index(i & 1), count=1)


@jit
def get(queue, i):
    """The index of item number i of this program."""
    index = gl.max(queue.wait(i).load(gl.BlockedLayout([1], [32], [4], [0])), 0)
    queue.release(i)
    return index


@jit
def produce(
    work, q_desc, k_desc, v_desc, q_stride, k_stride, v_stride, queue, q0_ring, q1_ring, k_ring, v_ring,
    BN: gl.constexpr, D: gl.constexpr,
):  # fmt: skip
    """The producer warp: draw items, one ahead, and fetch their queries, keys and values."""
    programs = gl.num_programs(0)
    n_items = work.n_tiles * work.heads
    t = 0
    r = 0
    index = gl.program_id(0)
    ticket = take_ticket(work.counter)
    put(queue, 0, index)
    while index >= 0:
        # one item ahead: a consumer asks for its next item before it has handed back all buffers of this one
        following = ticket_of(ticket) + programs
        following = gl.where(following < n_items, following, -1)
        put(queue, r + 1, following)
        ticket = take_ticket(work.counter)
        m0, head = work.item(index)
        n0, n = work.keys(m0, BN)
        k_column = (head // work.group) * k_stride
        v_column = (head // work.group) * v_stride
        q0_ring.fill(r, q_desc, m0, head * q_stride, 64 * D * 2)
        k_ring.fill(t, k_desc, n0, k_column, BN * D * 2)
        q1_ring.fill(r, q_desc, m0 + 64, head * q_stride, 64 * D * 2)
        for i in range(n):
            if i + 1 < n:
                k_ring.fill(t + 1, k_desc, n0 + (i + 1) * BN, k_column, BN * D * 2)
            v_ring.fill(t, v_desc, n0 + i * BN, v_column, BN * D * 2)
            t += 1
        index = following
        r += 1
    # the last program puts both counters back to zero for the next launch; the choice of address makes the
    # second ticket wait for the first
    last = ticket_of(ticket)
    if ticket_of(take_ticket(work.counter + gl.where(last < 0, 0, 1))) == programs - 1:
        gl.store(work.counter, 0)
        gl.store(work.counter + 1, 0)


@aggregate
class Rows:
    """What a warpgroup needs to know of its 64 queries of an item."""

    head: gl.tensor
    r0: gl.tensor  # first query
    n0: gl.tensor  # first key of the item, and its number of key tiles
    n: gl.tensor
    begin: gl.tensor  # the tiles [begin, end) of them are for these 64 queries
    end: gl.tensor
    last_start: gl.tensor  # a tile that starts below it, or ends past first_stop, needs the mask
    first_stop: gl.tensor
    start: gl.tensor  # (64,) first key that each query sees
    width: gl.tensor  # (64,) how many

    @constexpr_function
    def __init__(self, head, r0, n0, n, begin, end, last_start, first_stop, start, width):
        self.head = head
        self.r0 = r0
        self.n0 = n0
        self.n = n
        self.begin = begin
        self.end = end
        self.last_start = last_start
        self.first_stop = first_stop
        self.start = start
        self.width = width


@jit
def rows_of(work, index, c: gl.constexpr, BN: gl.constexpr, ROW: gl.constexpr):
    """The rows of warpgroup c; past the last item (index -1), none of the first."""
    m0, head = work.item(gl.maximum(index, 0))
    n0, n = work.keys(m0, BN)
    r0 = m0 + c * 64
    first = gl.minimum(r0, work.Tq - 1)
    last = gl.minimum(r0 + 63, work.Tq - 1)
    last_start = gl.load(work.key_start + last)
    last_stop = gl.load(work.key_stop + last)
    first_start = gl.load(work.key_start + first)
    first_stop = gl.load(work.key_stop + first)
    begin = gl.minimum(gl.maximum((first_start - n0) // BN, 0), n - 1)
    end = gl.minimum(gl.maximum((last_stop - n0 + BN - 1) // BN, begin + 1), n)
    begin = gl.where(index >= 0, begin, 0)
    row = r0 + gl.arange(0, 64, layout=ROW)
    start = gl.load(work.key_start + row, mask=row < work.Tq, other=0)
    stop = gl.load(work.key_stop + row, mask=row < work.Tq, other=0)
    width = gl.maximum(stop - start, 0).to(gl.uint32)
    return Rows(head, r0, n0, n, begin, end, last_start, first_stop, start, width)


@jit
def row_max(x, BN: gl.constexpr, ROW: gl.constexpr):
    """As a tree: a chain of BN / 4 maxima has the latency of each."""
    y = gl.max(gl.reshape(x, [64, BN // 32, 4, 8]), 1)
    return gl.convert_layout(gl.max(gl.max(y, 1), 1), ROW, assert_trivial=True)


@jit
def softmax_step(
    s,
    m,
    l8,
    n0,
    rows,
    scale,
    dtype: gl.constexpr,
    BN: gl.constexpr,
    S: gl.constexpr,
    P: gl.constexpr,
    L8: gl.constexpr,
):
    """One tile of the online softmax.

    Returns the probabilities as a left operand, the factor for what was accumulated before, the new maximum,
    and the new sums, which stay spread over the 8 columns (2 in each of 4 threads) until the item is done.
    """
    if (n0 < rows.last_start) | (n0 + BN > rows.first_stop):
        key = gl.arange(0, BN, layout=gl.SliceLayout(0, S))
        seen = (key[None, :] + (n0 - rows.start)[:, None]).to(gl.uint32) < rows.width[:, None]
        s = gl.where(seen, s, float("-inf"))
    m_new = gl.maximum(m, row_max(s, BN, gl.SliceLayout(1, S)))
    reference = gl.where(m_new == float("-inf"), 0.0, m_new * scale)
    p = gl.exp2(s * scale - reference[:, None])
    alpha = gl.exp2(m * scale - reference)
    sums = gl.convert_layout(gl.sum(gl.reshape(p, [64, BN // 8, 8]), 1), L8, assert_trivial=True)
    l8 = l8 * gl.convert_layout(alpha, gl.SliceLayout(1, L8), assert_trivial=True)[:, None] + sums
    return p, alpha, m_new, l8


@jit
def hand_back(c: gl.constexpr, first, stop, k_ring, v_ring, TURNS: gl.constexpr):
    """Tiles that this warpgroup has no use for: release them once they are there, and give up their turns."""
    for t in range(first, stop):
        if TURNS:
            meet(9 + c)
            pass_by(10 - c)
        k_ring.wait(t)
        k_ring.release(t)
        v_ring.wait(t)
        v_ring.release(t)


@jit
def consume(
    c: gl.constexpr, work, o_desc, lse_ptr, sink_ptr, scale, queue, q_ring, k_ring, v_ring, o_tile,
    BN: gl.constexpr, D: gl.constexpr, SINK: gl.constexpr, TURNS: gl.constexpr,
):  # fmt: skip
    """Warpgroup c: the attention of 64 queries of each item."""
    dtype: gl.constexpr = o_desc.dtype
    S: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BN, 16])
    ACC: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    P: gl.constexpr = gl.DotOperandLayout(0, ACC, 2)
    ROW: gl.constexpr = gl.SliceLayout(1, S)
    ROW_O: gl.constexpr = gl.SliceLayout(1, ACC)
    L8: gl.constexpr = gl.DistributedLinearLayout(
        [[0, 1], [8, 0]], [[0, 2], [0, 4], [1, 0], [2, 0], [4, 0]], [[16, 0], [32, 0]], [], [64, 8]
    )
    zero = gl.zeros([64, BN], gl.float32, layout=S)
    t = 0
    r = 0
    if TURNS and c == 1:
        pass_by(9)  # the first turn is warpgroup 0's
    index = get(queue, r)
    rows = rows_of(work, index, c, BN, ROW)
    hand_back(c, 0, rows.begin, k_ring, v_ring, TURNS)
    q = q_ring.wait(r)
    s_next = warpgroup_mma(q, k_ring.wait(rows.begin).permute((1, 0)), zero, use_acc=False, is_async=True)
    while index >= 0:
        s = warpgroup_mma_wait(0, deps=(s_next,))
        k_ring.release(t + rows.begin)
        if SINK:  # one more logit in the denominator
            m = (
                gl.full([64], 0.0, gl.float32, layout=ROW)
                + gl.load(sink_ptr + rows.head) * 1.4426950408889634 / scale
            )
            l8 = gl.full([64, 8], 0.125, gl.float32, layout=L8)
        else:
            m = gl.full([64], float("-inf"), gl.float32, layout=ROW)
            l8 = gl.full([64, 8], 0.0, gl.float32, layout=L8)
        acc = gl.zeros([64, D], gl.float32, layout=ACC)
        p, alpha, m, l8 = softmax_step(s, m, l8, rows.n0 + rows.begin * BN, rows, scale, dtype, BN, S, P, L8)
        for i in range(rows.begin + 1, rows.end):
            k = k_ring.wait(t + i)
            if TURNS:
                meet(9 + c)
            qk = warpgroup_mma(q, k.permute((1, 0)), zero, use_acc=False, is_async=True)
            # waits for nothing: keeps what follows behind QK
            qk, p = warpgroup_mma_wait(1, deps=(qk, p))
            pb = gl.convert_layout(p.to(dtype), P)
            pv = warpgroup_mma(pb, v_ring.wait(t + i - 1), acc, is_async=True)
            if TURNS:
                pass_by(10 - c)
            s = warpgroup_mma_wait(1, deps=(qk,))
            k_ring.release(t + i)
            p, alpha, m, l8 = softmax_step(s, m, l8, rows.n0 + i * BN, rows, scale, dtype, BN, S, P, L8)
            # a look at a barrier that is mostly complete by now: without this end of a block, ptxas moves the
            # wait for PV above the whole softmax
            v_ring.wait(t + i)
            acc, p, pb = warpgroup_mma_wait(0, deps=(pv, p, pb))
            v_ring.release(t + i - 1)
            acc = acc * gl.convert_layout(alpha, ROW_O)[:, None]
        q_ring.release(r)
        last = t + rows.end - 1
        pb = gl.convert_layout(p.to(dtype), P)
        pv = warpgroup_mma(pb, v_ring.wait(last), acc, is_async=True)
        # under PV: the next item's bounds, and this one's logarithms
        r += 1
        index = get(queue, r)
        rows_next = rows_of(work, index, c, BN, ROW)
        total = gl.convert_layout(gl.sum(l8, 1), ROW, assert_trivial=True)
        row = rows.r0 + gl.arange(0, 64, layout=ROW)
        lse = gl.where(total == 0.0, float("-inf"), m * (scale * 0.6931471805599453) + gl.log(total))
        gl.store(lse_ptr + rows.head.to(gl.int64) * work.Tq + row, lse, mask=row < work.Tq)
        inverse = gl.where(total == 0.0, 0.0, 1.0 / total)
        acc, pb = warpgroup_mma_wait(0, deps=(pv, pb))
        v_ring.release(last)  # before any hand_back: their tiles wait for this buffer
        hand_back(c, t + rows.end, t + rows.n, k_ring, v_ring, TURNS)
        t += rows.n
        hand_back(c, t, t + rows_next.begin, k_ring, v_ring, TURNS)
        q = q_ring.wait(r, pred=index >= 0)
        k = k_ring.wait(t + rows_next.begin, pred=index >= 0)
        # past the last item this multiplies what is left in the buffers, and nobody looks at it
        s_next = warpgroup_mma(q, k.permute((1, 0)), zero, use_acc=False, is_async=True)
        acc = acc * gl.convert_layout(inverse, ROW_O)[:, None]
        stores_read(0)
        o_tile.store(acc.to(dtype))
        fence_async_shared()
        store_tile(o_desc, [rows.r0, rows.head * D], o_tile)
        rows = rows_next
    s = warpgroup_mma_wait(0, deps=(s_next,))
    if TURNS and c == 0:
        meet(9)
    stores_read(0)


@jit(do_not_specialize=["Tq", "heads", "group", "section", "n_tiles", "q_stride", "k_stride", "v_stride"])
def attention_forward(
    q_desc, k_desc, v_desc, o_desc, lse_ptr, sink_ptr, key_start, key_stop, tiles, counter, Tq, heads, group, section,
    n_tiles, q_stride, k_stride, v_stride, scale,
    BN: gl.constexpr, D: gl.constexpr, ST: gl.constexpr, SINK: gl.constexpr, TURNS: gl.constexpr,
):  # fmt: skip
    """Attention of all queries; `scale` includes log2(e), `counter` is two zeros and is left so."""
    work = Work(key_start, key_stop, tiles, counter, Tq, heads, group, section, n_tiles)
    numbers = gl.allocate_shared_memory(gl.int32, [2, 1], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    queue = with_barriers(numbers, 2, 2)
    q0_ring = new_ring(q_desc, 1, 1)
    q1_ring = new_ring(q_desc, 1, 1)
    k_ring = new_ring(k_desc, ST, 2)
    v_ring = new_ring(v_desc, ST, 2)
    o_tiles = gl.allocate_shared_memory(o_desc.dtype, [2, 64, D], o_desc.layout)
    fence_async_shared()
    gl.warp_specialize(
        [
            (consume, (0, work, o_desc, lse_ptr, sink_ptr, scale, queue, q0_ring, k_ring, v_ring, o_tiles.index(0),
                       BN, D, SINK, TURNS)),
            (consume, (1, work, o_desc, lse_ptr, sink_ptr, scale, queue, q1_ring, k_ring, v_ring, o_tiles.index(1),
                       BN, D, SINK, TURNS)),
            (produce, (work, q_desc, k_desc, v_desc, q_stride, k_stride, v_stride, queue, q0_ring, q1_ring, k_ring,
                       v_ring, BN, D)),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip
