# Gluon's names mean other types to the compiler than to a type checker.
# pyright: basic, reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
"""What the Hopper kernels need of Triton's Gluon, which is experimental: all that differs between versions is here.

The kernels import the names below from this module alone. `unsupported()` says in words why they cannot be
built with the Triton that is installed, or None; ask it before importing `forward` or `backward`.
"""

import functools
from importlib import metadata
from typing import Any

SUPPORTED = ("3.6",)


@functools.cache  # each call of attention asks, and looking through what is installed takes half a millisecond
def unsupported() -> str | None:
    """Why the Hopper kernels cannot be built with the installed Triton; None where they can."""
    try:
        version = metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "Triton is not installed"
    if version.rpartition(".")[0] not in SUPPORTED:
        return (
            f"Triton {version} is not among the versions known to build the kernels ({', '.join(SUPPORTED)})"
        )
    return None


if unsupported() is None:
    from triton._C.libtriton import ir
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource as GluonASTSource
    from triton.experimental.gluon.language._core import builtin
    from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared as fence_async_shared
    from triton.experimental.gluon.language.nvidia.hopper import mbarrier as mbarrier
    from triton.experimental.gluon.language.nvidia.hopper import tma
    from triton.experimental.gluon.language.nvidia.hopper import warpgroup_mma as warpgroup_mma
    from triton.experimental.gluon.language.nvidia.hopper import warpgroup_mma_init as warpgroup_mma_init
    from triton.experimental.gluon.language.nvidia.hopper import warpgroup_mma_wait as warpgroup_mma_wait
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor as TensorDescriptor
    from triton.language.core import _aggregate as aggregate  # noqa: F401

    jit = gluon.jit
    constexpr_function = gluon.constexpr_function
    load_tile = tma.async_copy_global_to_shared
    store_tile = tma.async_copy_shared_to_global
    stores_read = tma.store_wait  # waits until all but the last n stores have read their shared memory

    @builtin
    def reduce_tile(descriptor, coordinates, source, _semantic: Any = None):
        """Add a tile in shared memory to global memory with the copy engine; Gluon 3.6 has no name for it."""
        coordinates = _semantic._convert_to_ir_values(coordinates, require_i64=False)
        kind = ir.DESCRIPTOR_REDUCE_KIND.ADD
        _semantic.builder.create_async_tma_reduce(kind, descriptor.handle, coordinates, source.handle)

    @jit
    def meet(barrier: gl.constexpr):
        """Two warpgroups of 128 threads wait for each other at hardware barrier `barrier` (9 to 15 are free)."""
        at_barrier(barrier_code("sync", barrier))

    @jit
    def pass_by(barrier: gl.constexpr):
        """Count as one of the two warpgroups that meet at a barrier, without waiting for the other."""
        at_barrier(barrier_code("arrive", barrier))

    @jit
    def at_barrier(code: gl.constexpr):
        """Run a barrier's instruction in all 128 threads."""
        lane = gl.arange(0, 128, layout=gl.BlockedLayout([1], [32], [4], [0]))
        gl.inline_asm_elementwise(code, "=r,r", [lane], dtype=gl.int32, is_pure=False, pack=1)

    @constexpr_function
    def barrier_code(action, barrier):
        """PTX of `meet` and `pass_by`."""
        return f"bar.{action} {int(barrier)}, 256; mov.b32 $0, $1;"

    @jit
    def take_ticket(counter_ptr):
        """Lane 0 of the calling warp takes the next number; nobody waits for it before `ticket_of`."""
        return gl.inline_asm_elementwise(
            "{ .reg .pred p; .reg .b32 lane; mov.u32 lane, %laneid; setp.eq.u32 p, lane, 0; mov.b32 $0, 0; "
            "@p atom.global.add.u32 $0, [$1], 1; }",
            "=r,l",
            [counter_ptr.to(gl.int64)],
            dtype=gl.int32,
            is_pure=False,
            pack=1,
        )

    @jit
    def ticket_of(ticket):
        """The number lane 0 drew, in all lanes."""
        return gl.inline_asm_elementwise(
            "shfl.sync.idx.b32 $0, $1, 0, 0x1f, 0xffffffff;",
            "=r,r",
            [ticket],
            dtype=gl.int32,
            is_pure=False,
            pack=1,
        )
