"""Launches the portable Triton kernels: descriptors, tile sizes, grids."""

# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportReturnType=false

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from tersely.kernels.attention.boundaries import Boundaries
from tersely.kernels.attention.hopper.launch import LONGEST_SHORT
from tersely.kernels.attention.intervals import TILE
from tersely.kernels.attention.triton.backward import attention_backward, attention_rows
from tersely.kernels.attention.triton.forward import attention_forward
from tersely.kernels.attention.triton.short import attention_backward_short
from tersely.kernels.attention.triton.table import attention_table

HEADS_TOGETHER = 4
"""Heads that go through the tiles side by side: more share the cache worse, fewer leave the device idle at the end."""


LOOKED_UP = 64
"""Distances that the gradient of a bias is summed for at a time."""


@dataclass(frozen=True, kw_only=True)
class ForwardTiles:
    """``BM`` queries, ``BN`` keys, warps of a program and stages of its pipeline."""

    BM: int
    BN: int
    warps: int
    stages: int


@dataclass(frozen=True, kw_only=True)
class BackwardTiles:
    """``BN`` keys by ``BM1`` queries for ``dK`` and ``dV``, ``BM`` queries by ``BN2`` keys for ``dQ``."""

    BN: int
    BM1: int
    BM: int
    BN2: int
    warps: int
    stages: int


@dataclass(frozen=True, kw_only=True)
class ShortTiles:
    """``W`` queries and keys of a program, and steps of ``BS`` beside them: as was fastest on Hopper."""

    W: int = 64
    BS: int = 32
    warps: int = 4
    stages: int = 2


def forward_tiles(head_dim: int, biased: bool = False) -> ForwardTiles:
    """What was fastest on Hopper for a head dimension (a power of two); with a bias, what keeps to its registers."""
    if head_dim > 128:
        return ForwardTiles(BM=128, BN=32 if biased else 64, warps=8, stages=2)
    if biased:
        return ForwardTiles(BM=64, BN=32, warps=4, stages=3)
    return ForwardTiles(BM=64, BN=64, warps=4, stages=3)


def backward_tiles(head_dim: int, biased: bool = False) -> BackwardTiles:
    """What was fastest on Hopper for a head dimension (a power of two); with a bias, what keeps to its registers."""
    if biased and head_dim == 128:
        return BackwardTiles(BN=64, BM1=32, BM=64, BN2=32, warps=8, stages=2)
    if head_dim > 128:
        return BackwardTiles(BN=64, BM1=32, BM=64, BN2=32, warps=8, stages=2)
    if head_dim > 64:
        return BackwardTiles(BN=64, BM1=64, BM=64, BN2=64, warps=4, stages=2)
    return BackwardTiles(BN=64, BM1=32, BM=64, BN2=64, warps=4, stages=3)


def forward(
    q: Tensor, k: Tensor, v: Tensor, bounds: Boundaries, *,
    scale: float, softcap: float = 0.0, sink: Tensor | None = None, gate: Tensor | None = None,
    bias: Tensor | None = None, positions: tuple[Tensor, Tensor] | None = None, tiles: ForwardTiles | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out`` and ``lse``; arguments as in ``reference.forward``."""
    Tq, H, D = q.shape
    Tk, KH, _ = k.shape
    out = torch.empty(Tq, H, D, dtype=q.dtype, device=q.device)
    lse = torch.empty(H, Tq, dtype=torch.float32, device=q.device)
    if not out.numel():
        return out, lse
    if not k.numel():
        return _blind(out, lse, sink)
    DP = _padded(D)
    t = tiles or forward_tiles(DP, bias is not None)
    table, places, R = _table(bias, positions)
    attention_forward[(bounds.query_tiles.shape[0] * (TILE // t.BM) * H,)](
        _rows(q, t.BM, DP), _rows(k, t.BN, DP), _rows(v, t.BN, DP), _written(out, t.BM, DP), lse,
        bounds.key_start, bounds.key_stop, bounds.query_stop, bounds.query_tiles,
        lse if gate is None else gate, lse if sink is None else sink,
        scale, softcap, Tq, Tk, H, H // KH, bounds.query_tiles.shape[0], _together(H, H // KH), table, *places,
        BM=t.BM, BN=t.BN, D=D, DP=DP, TREE=bounds.tree, GATE=gate is not None, CAP=softcap != 0, SINK=sink is not None,
        BIAS=bias is not None, R=R,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return out, lse


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, bounds: Boundaries, *,
    scale: float, softcap: float = 0.0, gate: Tensor | None = None, dlse: Tensor | None = None,
    bias: Tensor | None = None, positions: tuple[Tensor, Tensor] | None = None, tiles: BackwardTiles | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """``dq``, ``dk``, ``dv``, ``dgate`` and ``dbias``; arguments as in ``reference.backward``."""
    if tiles is None and takes_short(q, k, bounds, softcap=softcap, gate=gate, dlse=dlse, bias=bias):
        return *backward_short(dout, q, k, v, out, lse, bounds, scale=scale), None, None
    Tq, H, D = q.shape
    Tk, KH, _ = k.shape
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    dgate = None if gate is None else torch.empty(KH, Tk, dtype=torch.float32, device=q.device)
    if not q.numel() or not k.numel():
        return (
            dq.zero_(),
            dk.zero_(),
            dv.zero_(),
            *(None if x is None else torch.zeros_like(x) for x in (gate, bias)),
        )
    DP = _padded(D)
    t = tiles or backward_tiles(DP, bias is not None)
    padded = triton.cdiv(Tq, TILE) * TILE
    rows = torch.empty(2, H, padded, dtype=torch.float32, device=q.device)
    attention_rows[(padded // 64, H)](
        _rows(out, 64, DP), _rows(dout, 64, DP), lse, lse if dlse is None else dlse, rows, Tq, padded,
        BM=64, D=D, DP=DP, DLSE=dlse is not None, num_warps=4,
    )  # fmt: skip
    blocks = max(bounds.query_tiles.shape[0], bounds.key_tiles.shape[0])
    G = H // KH
    table, places, R = _table(bias, positions)
    far = (
        None
        if bias is None
        else torch.empty(H, triton.cdiv(Tq, t.BM), 2, dtype=torch.float32, device=q.device)
    )
    options = dict(D=D, DP=DP, TREE=bounds.tree, GATE=gate is not None, CAP=softcap != 0, R=R)
    attention_backward[(blocks * KH * (TILE // t.BN + G * (TILE // t.BM)),)](
        *(_rows(x, t.BM, DP) for x in (q, dout)), *(_rows(x, t.BN2, DP) for x in (k, v)), _written(dq, t.BM, DP),
        *(_rows(x, t.BN, DP) for x in (k, v)), *(_rows(x, t.BM1, DP) for x in (q, dout)),
        TensorDescriptor(rows, [2 * H, padded], [padded, 1], [1, t.BM1]),
        *(_written(x, t.BN, DP) for x in (dk, dv)), rows,
        bounds.key_start, bounds.key_stop, bounds.query_start, bounds.query_stop, bounds.query_tiles,
        bounds.key_tiles, lse if gate is None else gate, lse if dgate is None else dgate,
        scale, softcap, Tq, Tk, H, G, blocks, _together(KH, 1), padded, table, *places, far,
        BN=t.BN, BM1=t.BM1, BM=t.BM, BN2=t.BN2, BIAS=bias is not None, **options,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    dbias = None
    if far is not None:
        size = max(LOOKED_UP, triton.next_power_of_2(2 * R + 1))
        sums = torch.empty(*far.shape[:2], size, dtype=torch.float32, device=q.device)
        attention_table[(far.shape[1], H)](
            *(_rows(x, t.BM, DP) for x in (q, dout)), *(_rows(x, t.BN2, DP) for x in (k, v)), rows, far, sums,
            table, *places, bounds.key_start, bounds.key_stop, bounds.query_stop, lse if gate is None else gate,
            scale, softcap, Tq, Tk, H, G, padded,
            BM=t.BM, BN=t.BN2, TABLE=size, W=LOOKED_UP, **options, num_warps=t.warps, num_stages=1,
        )  # fmt: skip
        dbias = sums[:, :, : 2 * R + 1].sum(1)
    return dq, dk, dv, None if dgate is None else dgate.sum(0), dbias


def takes_short(
    q: Tensor, k: Tensor, bounds: Boundaries, *,
    softcap: float, gate: Tensor | None, dlse: Tensor | None, bias: Tensor | None = None,
) -> bool:  # fmt: skip
    """Whether ``backward_short`` is for this call: short documents, plain scores, a key head for each query head.

    Its programs walk from their own tokens to those that these see: with queries and keys of different totals that is far.
    """
    plain = not softcap and gate is None and bias is None and dlse is None and not bounds.tree
    fits = q.shape[:2] == k.shape[:2] and q.shape[2] <= 128
    return plain and fits and q.shape[0] <= LONGEST_SHORT * bounds.documents


def backward_short(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, bounds: Boundaries, *,
    scale: float, tiles: ShortTiles | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """``dq``, ``dk`` and ``dv`` of plain scores and as many key heads as query heads: right for any documents."""
    (Tq, H, D), Tk = q.shape, k.shape[0]
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    if not q.numel() or not k.numel():
        return dq.zero_(), dk.zero_(), dv.zero_()
    DP = _padded(D)
    t = tiles or ShortTiles()
    tensors = [x if x.stride(1) == D else x.contiguous() for x in (q, dout, out, k, v)]
    blocks = triton.cdiv(max(Tq, Tk), t.W)
    attention_backward_short[(blocks * H,)](
        *tensors, *(x.stride(0) for x in tensors), *(_rows(x, t.BS, DP) for x in tensors),
        *(_written(x, t.W, DP) for x in (dq, dk, dv)), lse,
        bounds.key_start, bounds.key_stop, bounds.query_start, bounds.query_stop,
        scale, Tq, Tk, H, blocks, _together(H, 1),
        W=t.W, BS=t.BS, D=D, DP=DP, num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return dq, dk, dv


def _rows(x: Tensor, rows: int, width: int) -> TensorDescriptor:
    """Tiles to read, of ``rows`` tokens; heads stand side by side, and a tile may begin anywhere in a row.

    (Tiles of a three-dimensional tensor would end at the head dimension, but then the compiler keeps the tiles that
    stay in registers instead of shared memory, and spills.)
    """
    tokens, heads, head_dim = x.shape
    if x.stride(1) != head_dim:
        x = x.contiguous()
    return TensorDescriptor(x, [tokens, heads * head_dim], [x.stride(0), 1], [rows, width])


def _written(x: Tensor, rows: int, width: int) -> TensorDescriptor:
    """Tiles to write, of ``rows`` tokens of one head; what lies past the tensor is not written."""
    return TensorDescriptor(x, list(x.shape), list(x.stride()), [rows, 1, width])


def _table(
    bias: Tensor | None, positions: tuple[Tensor, Tensor] | None
) -> tuple[Tensor | None, tuple[Tensor | None, Tensor | None], int]:
    """The bias and the positions as kernels read them, and the longest distance; nothing without a bias."""
    if bias is None or positions is None:
        return None, (None, None), 0
    return bias.contiguous(), (positions[0].contiguous(), positions[1].contiguous()), bias.shape[1] // 2


def _padded(head_dim: int) -> int:
    return max(16, triton.next_power_of_2(head_dim))


def _together(heads: int, group: int) -> int:
    return min(heads, max(HEADS_TOGETHER, group))


def _blind(out: Tensor, lse: Tensor, sink: Tensor | None) -> tuple[Tensor, Tensor]:
    """Queries without any keys."""
    return out.zero_(), lse.copy_(sink[:, None]) if sink is not None else lse.fill_(float("-inf"))
