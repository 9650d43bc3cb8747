# Gluon's names mean other types to the compiler than to a type checker.
# pyright: basic, reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
"""Rings of buffers in shared memory, between the producer warp and the warpgroups that read."""

from tersely.kernels.attention.hopper.gluon import aggregate, constexpr_function, gl, jit, load_tile, mbarrier


@aggregate
class Ring:
    """Buffers in shared memory, each with a barrier that says it is filled and one that says it is free."""

    tiles: gl.shared_memory_descriptor
    full: gl.shared_memory_descriptor
    empty: gl.shared_memory_descriptor
    stages: gl.constexpr

    @constexpr_function
    def __init__(self, tiles, full, empty, stages):
        self.tiles = tiles
        self.full = full
        self.empty = empty
        self.stages = gl.constexpr(stages)

    @jit
    def fill(self, i, descriptor, row, column, BYTES: gl.constexpr):
        """Fetch tile number i (of all time) from global memory; BYTES in all will come before it is there."""
        tile = self.free(i)
        full = self.full.index(i % self.stages)
        mbarrier.expect(full, BYTES)
        load_tile(descriptor, [row, column], full, tile)

    @jit
    def free(self, i):
        """Wait until the buffer of tile number i is free, and return it."""
        s = i % self.stages
        mbarrier.wait(self.empty.index(s), ((i // self.stages) & 1) ^ 1)
        return self.tiles.index(s)

    @jit
    def hand_over(self, i):
        """Say that this writer's part of tile number i is there."""
        mbarrier.arrive(self.full.index(i % self.stages), count=1)

    @jit
    def wait(self, i, pred=True):
        """Wait until tile number i is there, and return it."""
        s = i % self.stages
        mbarrier.wait(self.full.index(s), (i // self.stages) & 1, pred=pred)
        return self.tiles.index(s)

    @jit
    def release(self, i):
        """Say that this warpgroup has read tile number i."""
        mbarrier.arrive(self.empty.index(i % self.stages), count=1)


@jit
def new_ring(descriptor, STAGES: gl.constexpr, READERS: gl.constexpr, WRITERS: gl.constexpr = 1):
    """Buffers for the tiles of a descriptor, each read by READERS warpgroups."""
    rows: gl.constexpr = descriptor.block_shape[0]
    columns: gl.constexpr = descriptor.block_shape[1]
    tiles = gl.allocate_shared_memory(descriptor.dtype, [STAGES, rows, columns], descriptor.layout)
    return with_barriers(tiles, STAGES, READERS, WRITERS)


@jit
def with_barriers(tiles, STAGES: gl.constexpr, READERS: gl.constexpr, WRITERS: gl.constexpr = 1):
    """A ring of these tiles: filled when WRITERS have arrived, free when READERS have."""
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=WRITERS)
        mbarrier.init(empty.index(i), count=READERS)
    return Ring(tiles, full, empty, STAGES)
