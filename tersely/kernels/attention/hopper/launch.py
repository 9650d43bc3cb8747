"""Launches of the Hopper kernels: what they support, descriptors for the copy engine, grids, tile sizes, workspace.

Nothing here waits for the device or reads from it, and every shape follows from those of the arguments, so that a
call can be captured in a CUDA graph.

T packed tokens (Tq queries, Tk keys), H heads (Hkv key heads), D head dimension.
"""

import functools
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

from tersely.errors import KernelError
from tersely.kernels.attention.hopper.gluon import unsupported

LOG2E = 1.4426950408889634
TILE = 128  # tokens in a tile of work
# Key heads worked on at a time, so that what they read stays in the L2 cache. Forward, of 2, 4, 8 and 16 this was fastest
# on the longest documents (3 %, one H100); backward, 4 was the fastest of 2, 4 and 8 or less than 1 % behind.
SECTION = 8
SECTION_BACKWARD = 4
# Mean length up to which documents are taken for short. Seen on an H100 at 128 tokens (smaller tiles and the portable
# backward are faster there) and at 528 and more (they are not); nothing between was measured.
LONGEST_SHORT = 192


class Bounds(Protocol):
    """Which keys each query sees, as `Boundaries` holds it: int32 vectors on the device, none of which decreases.

    Query q sees the keys with key_start[q] <= k < key_stop[q]; key k is seen by query_start[k] <= q <
    query_stop[k]. `query_tiles` and `key_tiles` are the order in which tiles of 128 tokens are worked on.
    """

    @property
    def key_start(self) -> Tensor: ...  # noqa: D102
    @property
    def key_stop(self) -> Tensor: ...  # noqa: D102
    @property
    def query_start(self) -> Tensor: ...  # noqa: D102
    @property
    def query_stop(self) -> Tensor: ...  # noqa: D102
    @property
    def query_tiles(self) -> Tensor: ...  # noqa: D102
    @property
    def key_tiles(self) -> Tensor: ...  # noqa: D102


def supports(q: Tensor, k: Tensor, v: Tensor, *, deterministic: bool = False) -> str | None:
    """Why these tensors cannot go through the Hopper kernels; None where they can.

    `deterministic` asks for a backward that gives the same bits in every run: this one adds dQ in any order.
    """
    if q.dtype not in (torch.bfloat16, torch.float16) or not q.dtype == k.dtype == v.dtype:
        return (
            f"the Hopper kernels take bfloat16 or float16, all the same; got {q.dtype}, {k.dtype}, {v.dtype}"
        )
    if not q.shape[2] == k.shape[2] == v.shape[2] or q.shape[2] not in (64, 128):
        return f"the Hopper kernels take head dimensions 64 and 128; got {q.shape[2]}, {k.shape[2]}, {v.shape[2]}"
    if k.shape != v.shape or k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        return (
            f"{q.shape[1]} query heads do not divide over the key heads of {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if deterministic:
        return "the Hopper backward is not deterministic"
    if q.device.type != "cuda" or torch.version.hip or capability(q.device) != (9, 0):
        return "the Hopper kernels run on GPUs of compute capability 9.0 only"
    return unsupported()


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds: Bounds,
    *,
    scale: float,
    sink: Tensor | None = None,
    mean_length: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of packed queries over packed keys.

    Args:
        q: (Tq, H, D), bfloat16 or float16.
        k: (Tk, Hkv, D), as q.
        v: (Tk, Hkv, D), as q.
        bounds: which keys each query sees.
        scale: factor of the scores, above zero.
        sink: (H,) float32, one more logit in each row's denominator.
        mean_length: mean length of the documents, if known on the host: chooses the tile size.

    Returns:
        out (Tq, H, D) as q, and lse (H, Tq) float32: the natural logarithm of each row's denominator. A row that
        sees nothing gives zeros, and minus infinity (the sink, where there is one).
    """
    kernels: Any = import_module("tersely.kernels.attention.hopper.forward")
    (Tq, H, D), (Tk, Hkv, _) = q.shape, k.shape
    out = torch.empty(Tq, H, D, dtype=q.dtype, device=q.device)
    lse = torch.empty(H, Tq, dtype=torch.float32, device=q.device)
    if not Tq or not Tk:
        lse.copy_((lse.new_full((H,), -torch.inf) if sink is None else sink)[:, None].expand(H, Tq))
        return out.zero_(), lse
    q, k, v = _for_copy_engine(q), _for_copy_engine(k), _for_copy_engine(v)
    config = forward_config(D, mean_length)
    tiles = -(-Tq // TILE)
    with torch.cuda.device_of(q):
        kernels.attention_forward[(min(_multiprocessors(q.device), tiles * H),)](
            _descriptor(q, 64),
            _descriptor(k, config["BN"]),
            _descriptor(v, config["BN"]),
            _descriptor(out, 64),
            lse,
            lse if sink is None else sink,
            bounds.key_start,
            bounds.key_stop,
            bounds.query_tiles,
            _counters(q.device),
            Tq,
            H,
            H // Hkv,
            min(H, SECTION * (H // Hkv)),
            tiles,
            _head_stride(q),
            _head_stride(k),
            _head_stride(v),
            scale * LOG2E,
            D=D,
            SINK=sink is not None,
            **config,
            num_warps=4,
        )
    return out, lse


def backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bounds: Bounds,
    *,
    scale: float,
    deterministic: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `forward` by q, k and v, from that of `out`; all shaped and typed as their inputs.

    dQ is added up in float32 in any order: two runs may differ in the last bit. Takes 4 (D + 2) H Tq bytes of
    workspace.

    Raises:
        KernelError: `deterministic` is asked for.
    """
    if deterministic:
        raise KernelError("the Hopper backward is not deterministic: use backend='triton', which is")
    kernels: Any = import_module("tersely.kernels.attention.hopper.backward")
    (Tq, H, D), (Tk, Hkv, _) = q.shape, k.shape
    dq = torch.empty(Tq, H, D, dtype=q.dtype, device=q.device)
    dk = torch.empty(Tk, Hkv, D, dtype=k.dtype, device=k.device)
    dv = torch.empty(Tk, Hkv, D, dtype=v.dtype, device=v.device)
    if not Tq or not Tk:
        return dq.zero_(), dk.zero_(), dv.zero_()
    q, k, v, dout = _for_copy_engine(q), _for_copy_engine(k), _for_copy_engine(v), _for_copy_engine(dout)
    out, lse = _for_copy_engine(out), lse.contiguous()
    blocks, tiles = -(-Tq // TILE), -(-Tk // TILE)
    sums = torch.empty(H * blocks * TILE * D, dtype=torch.float32, device=q.device)
    lse2, delta = torch.empty(2, H, blocks * TILE, dtype=torch.float32, device=q.device)
    with torch.cuda.device_of(q):
        kernels.prepare[(blocks * 2 * H,)](
            out, dout, lse, sums, lse2, delta, out.stride(0), _head_stride(out), dout.stride(0), _head_stride(dout), Tq,
            blocks, H=H, D=D, R=64, num_warps=4,
        )  # fmt: skip
        kernels.attention_backward[(tiles * Hkv,)](
            _descriptor(q, 64),
            _descriptor(dout, 64),
            _descriptor(k, 64),
            _descriptor(v, 64),
            _describe(sums, sums.numel() // 32, 32, 32, 128),  # in the order of `by_thread`
            _descriptor(dk, 64),
            _descriptor(dv, 64),
            lse2,
            delta,
            bounds.query_start,
            bounds.query_stop,
            bounds.key_tiles,
            Tk,
            blocks,
            Hkv,
            H // Hkv,
            min(Hkv, SECTION_BACKWARD),
            tiles,
            _head_stride(q),
            _head_stride(dout),
            _head_stride(k),
            _head_stride(v),
            scale * LOG2E,
            scale,
            D=D,
            **backward_config(D),
            num_warps=4,
        )
        kernels.finish[(blocks * 2 * H,)](sums, dq, scale, Tq, blocks, H=H, D=D, R=64, num_warps=4)
    return dq, dk, dv


def forward_config(D: int, mean_length: float | None = None) -> dict[str, Any]:
    """Tile of keys and stages for a head dimension; short documents waste less of small tiles."""
    if mean_length is not None and mean_length <= LONGEST_SHORT:
        return {"BN": 64, "ST": 4, "TURNS": False}
    return {"BN": 128, "ST": 2 if D == 128 else 3, "TURNS": D == 128}


def backward_config(D: int) -> dict[str, Any]:
    """Stages of queries for a head dimension."""
    return {"ST": 2 if D == 128 else 4}


def _for_copy_engine(x: Tensor) -> Tensor:
    """`x`, or a copy where the copy engine could not read it: 16-byte strides and start, 32-bit coordinates."""
    T, H, D = x.shape
    steps = [x.stride(0)] * (T > 1) + [x.stride(1)] * (H > 1)
    ready = x.stride(2) == 1 and not x.data_ptr() % 16 and all(s >= D and not s % 8 for s in steps)
    ready = ready and H * _head_stride(x) < 2**31
    return x if ready else x.clone(memory_format=torch.contiguous_format)


def _head_stride(x: Tensor) -> int:
    return x.stride(1) if x.shape[1] > 1 else x.shape[2]


def _descriptor(x: Tensor, rows: int) -> Any:
    """Tiles of `rows` tokens of one head of (T, H, D): head h starts at column h * stride."""
    T, H, D = x.shape
    row_stride = x.stride(0) if T > 1 else H * D
    return _describe(x, T, (H - 1) * _head_stride(x) + D, row_stride, rows, D)


def _describe(
    x: Tensor, rows: int, columns: int, row_stride: int, tile_rows: int, tile_columns: int = 0
) -> Any:
    from tersely.kernels.attention.hopper.gluon import TensorDescriptor

    tile = [tile_rows, tile_columns or columns]
    return TensorDescriptor(x, [rows, columns], [row_stride, 1], tile, _tile_layout(*tile, x.dtype))


@functools.lru_cache
def _tile_layout(rows: int, columns: int, dtype: torch.dtype) -> Any:
    from tersely.kernels.attention.hopper.gluon import gl

    kinds = {torch.bfloat16: gl.bfloat16, torch.float16: gl.float16, torch.float32: gl.float32}
    return gl.NVMMASharedLayout.get_default_for([rows, columns], kinds[dtype])


@functools.lru_cache  # each call asks
def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a CUDA device."""
    return torch.cuda.get_device_capability(device)


@functools.lru_cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


_COUNTERS: dict[tuple[torch.device, int], Tensor] = {}


def _counters(device: torch.device) -> Tensor:
    """Two zeros, which the kernel leaves so; a pair for each stream, and for each launch in a CUDA graph."""
    if torch.cuda.is_current_stream_capturing():
        return torch.zeros(2, dtype=torch.int32, device=device)
    key = (device, torch.cuda.current_stream(device).cuda_stream)
    if key not in _COUNTERS:
        _COUNTERS[key] = torch.zeros(2, dtype=torch.int32, device=device)
    return _COUNTERS[key]
