"""The door to packed attention: checks, defaults, boundaries, one operator."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tersely.errors import KernelError, choose
from tersely.kernels.attention import adapters
from tersely.kernels.attention.backend import Backend
from tersely.kernels.attention.boundaries import Boundaries
from tersely.kernels.attention.operator import attention


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor | Boundaries,
    cu_seqlens_k: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    window: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    sink: Tensor | None = None,
    plus_one: bool = False,
    gate: Tensor | None = None,
    bias: Tensor | None = None,
    positions: tuple[Tensor, Tensor] | None = None,
    deterministic: bool = False,
    return_lse: bool = False,
    backend: Backend | str = Backend.AUTO,
) -> Any:
    """Softmax attention inside each document of a packed batch, forward and backward.

    Legend: ``Tq``, ``Tk`` packed tokens of queries and keys, ``N`` documents, ``H`` query heads, ``KH`` key heads,
    ``D`` head dimension, ``R`` longest distance.

    Args:
        q: ``(Tq, H, D)``, bf16 or fp16; fp32 and fp64 by the reference.
        k: ``(Tk, KH, D)``, of the dtype of ``q``; ``H`` a multiple of ``KH``.
        v: ``(Tk, KH, D)``. Slices of a packed projection ``(T, 3, H, D)`` are read in place, all three.
        cu_seqlens_q: ``(N + 1,)``, int32 or int64, on the device of ``q``: where documents begin, and the end. Or
            ``Boundaries``, which are made once for all layers and can be prefix trees; these also say what is causal.
        cu_seqlens_k: the same for the keys, where they are not the tokens of the queries.
        causal: no key after its query; the last query stands at the last key.
        scale: factor of the products, by default ``1 / sqrt(D)``.
        window: keys to the left and right of a query that it sees, -1 for all.
        softcap: bounds scores to ``softcap * tanh(score / softcap)``; 0 for none.
        sink: ``(H,)``, one more logit of each row that takes weight and gives nothing; differentiable.
        plus_one: a sink of 0: the denominator gets one more.
        gate: ``(Tk,)``, added to the scores of each key in all heads; differentiable.
        bias: ``(H, 2 R + 1)``, floats: head ``h`` adds ``bias[h, clip(key position - query position, -R, R) + R]`` to
            the score of each pair, after scale and soft-cap; differentiable. T5's is its embedding of 32 buckets indexed
            by distance, once for all layers, with its ``max_distance`` as ``R``.
        positions: with ``bias``, the positions of the queries ``(Tq,)`` and of the keys ``(Tk,)``, int32 or int64. After
            tokens were removed, those that are left keep their old ones.
        deterministic: the same bits from the same inputs in every run, backward too.
        return_lse: also give the logarithm of each row's denominator, ``(H, Tq)``, fp32; differentiable.
        backend: see ``Backend``.

    Returns:
        ``(Tq, H, D)``, and ``lse`` if asked for. Rows that see no key, slack rows past ``cu_seqlens_q[-1]`` among them,
        are 0, have ``lse`` -inf (or the sink's) and get no gradient.

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or ``backend`` does not support the call.
    """
    _check(q, k, v)
    if isinstance(cu_seqlens_q, Boundaries):
        if cu_seqlens_k is not None or causal or window != (-1, -1):
            raise KernelError(
                "boundaries say already what is causal and how wide the window is: give them alone"
            )
        bounds = cu_seqlens_q
    else:
        bounds = _boundaries(cu_seqlens_q, q.shape[0], cu_seqlens_k, k.shape[0], causal, window)
    if bounds.key_start.shape[0] != q.shape[0] or bounds.query_start.shape[0] != k.shape[0]:
        raise KernelError(
            f"the boundaries are of {bounds.key_start.shape[0]} queries and {bounds.query_start.shape[0]} keys, but q "
            f"has {q.shape[0]} rows and k {k.shape[0]}: give cu_seqlens_k where keys are other tokens than queries"
        )
    if plus_one:
        if sink is not None:
            raise KernelError("plus_one is a sink of 0: give it or sink, not both")
        sink = torch.zeros(q.shape[1], dtype=torch.float32, device=q.device)
    if sink is not None and sink.shape != (q.shape[1],):
        raise KernelError(
            f"sink has shape {tuple(sink.shape)}, but q has {q.shape[1]} heads: one logit for each head"
        )
    if gate is not None and gate.shape != (k.shape[0],):
        raise KernelError(
            f"gate has shape {tuple(gate.shape)}, but k has {k.shape[0]} rows: one number for each key"
        )
    query_positions, key_positions = _positions(q, k, bias, positions)
    scale = 1 / math.sqrt(q.shape[2]) if scale is None else scale
    if not scale > 0 or softcap < 0:
        raise KernelError(f"scale {scale} must be positive, and softcap {softcap} not negative")
    wanted = choose(Backend, backend)
    if adapters.is_adapter(wanted):
        if (
            isinstance(cu_seqlens_q, Boundaries)
            or gate is not None
            or bias is not None
            or return_lse
            or deterministic
        ):
            raise KernelError(
                f"backend={str(wanted)!r} takes cu_seqlens, and gives neither lse, gates, position biases nor determinism: "
                "use backend='auto'"
            )
        return adapters.run(
            wanted, q, k, v, cu_seqlens_q, cu_seqlens_q if cu_seqlens_k is None else cu_seqlens_k,
            causal=causal, scale=scale, window=window, softcap=softcap, sink=sink,
        )  # fmt: skip
    out, lse = attention(
        q, k, v,
        bounds.key_start, bounds.key_stop, bounds.query_start, bounds.query_stop, bounds.query_tiles, bounds.key_tiles,
        bounds.tree, bounds.documents, gate, sink, scale, softcap, deterministic, str(wanted),
        bias, query_positions, key_positions,
    )  # fmt: skip
    return (out, lse) if return_lse else out


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.dim() != 3 or k.dim() != 3 or k.shape != v.shape or q.shape[2] != k.shape[2]:
        raise KernelError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} must be (tokens, heads, head dimension), "
            "k and v of one shape, all of one head dimension"
        )
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise KernelError(f"{q.shape[1]} query heads are no multiple of {k.shape[1]} key heads")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise KernelError(f"q, k and v must have one floating dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
    if not q.device == k.device == v.device:
        raise KernelError(f"q, k and v are on {q.device}, {k.device} and {v.device}: move them to one device")


def _positions(
    q: Tensor, k: Tensor, bias: Tensor | None, positions: tuple[Tensor, Tensor] | None
) -> tuple[Tensor | None, Tensor | None]:
    """The positions of queries and keys, none without a bias."""
    if bias is None or positions is None:
        if bias is not positions:
            raise KernelError("bias is read by positions: give both, or neither")
        return None, None
    if (
        bias.dim() != 2
        or bias.shape[0] != q.shape[1]
        or bias.shape[1] % 2 == 0
        or not bias.is_floating_point()
    ):
        raise KernelError(
            f"bias is {bias.dtype} of shape {tuple(bias.shape)}: give floats of ({q.shape[1]}, 2 R + 1), a number for each "
            "head and distance"
        )
    for name, found, tokens in (("queries", positions[0], q.shape[0]), ("keys", positions[1], k.shape[0])):
        if found.shape != (tokens,) or found.dtype not in (torch.int32, torch.int64):
            raise KernelError(
                f"positions of {name} are {found.dtype} of shape {tuple(found.shape)}: give int32 or int64 of ({tokens},)"
            )
    if not bias.device == positions[0].device == positions[1].device == q.device:
        raise KernelError(f"bias and positions must be on {q.device}, as q is: move them there")
    return positions


def _boundaries(
    q: Tensor, tokens_q: int, k: Tensor | None, tokens_k: int, causal: bool, window: tuple[int, int]
) -> Boundaries:
    return recent(
        (q, k),
        (tokens_q, tokens_k, causal, window),
        lambda: Boundaries.from_cu_seqlens(
            q, tokens_q, k, None if k is None else tokens_k, causal=causal, window=window
        ),
    )


_RECENT: OrderedDict[tuple[Any, ...], tuple[list[weakref.ref[Tensor] | None], Boundaries]] = OrderedDict()
_KEPT = 8


def recent(
    tensors: tuple[Tensor | None, ...], settings: tuple[Any, ...], make: Callable[[], Boundaries]
) -> Boundaries:
    """What ``make`` made for these very tensors, unchanged since: the layers of a model ask for the same boundaries.

    While a graph is compiled or captured nothing is kept: its memory is its own. Make ``Boundaries`` beforehand there.
    """
    if torch.compiler.is_compiling() or any(x is not None and not _lasting(x) for x in tensors):
        return make()
    key = (*(None if x is None else (id(x), x._version) for x in tensors), settings)
    found = _RECENT.get(key)
    if found is not None and all(
        x is None or (ref is not None and ref() is x) for x, ref in zip(tensors, found[0], strict=True)
    ):
        return found[1]
    made = make()
    _RECENT[key] = ([None if x is None else weakref.ref(x) for x in tensors], made)
    while len(_RECENT) > _KEPT:
        _RECENT.popitem(last=False)
    return made


def _lasting(x: Tensor) -> bool:
    """Whether a later change of ``x`` would show, and what is made of it now will keep its place in memory."""
    return not x.is_inference() and not (x.is_cuda and torch.cuda.is_current_stream_capturing())
