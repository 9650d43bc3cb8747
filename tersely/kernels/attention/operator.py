"""Packed attention as operators of torch: what ``torch.compile``, autograd and CUDA graphs see.

Shapes of all results follow from shapes of the arguments, so nothing is read from the device and one compiled graph
serves batches of all lengths. Implementations are chosen inside, when the call runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tersely.kernels.attention import reference
from tersely.kernels.attention.backend import Backend, pick
from tersely.kernels.attention.boundaries import Boundaries
from tersely.kernels.attention.hopper import launch as hopper
from tersely.kernels.operator import operator


@operator("attention")
def attention(
    q: Tensor, k: Tensor, v: Tensor,
    key_start: Tensor, key_stop: Tensor, query_start: Tensor, query_stop: Tensor, query_tiles: Tensor, key_tiles: Tensor,
    tree: bool, documents: int, gate: Tensor | None, sink: Tensor | None,
    scale: float, softcap: float, deterministic: bool, backend: str,
    bias: Tensor | None = None, query_positions: Tensor | None = None, key_positions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out`` and ``lse`` of ``reference.forward``."""
    bounds = Boundaries(key_start, key_stop, query_start, query_stop, query_tiles, key_tiles, tree, documents)
    gate, sink = _side_by_side(gate), _side_by_side(sink)
    relative: dict[str, Any] = dict(bias=bias, positions=_pair(query_positions, key_positions))
    match pick(
        backend, q, k, v,
        tree=tree, softcap=softcap, gated=gate is not None, deterministic=deterministic, biased=bias is not None,
    ):  # fmt: skip
        case Backend.HOPPER:
            mean_length = q.shape[0] / documents if documents else None
            sink = None if sink is None else sink.float()
            return hopper.forward(q, k, v, bounds, scale=scale, sink=sink, mean_length=mean_length)
        case Backend.TRITON:
            from tersely.kernels.attention.triton import launch as portable

            return portable.forward(
                _strided(q), _strided(k), _strided(v), bounds,
                scale=scale, softcap=softcap, sink=sink, gate=gate, **relative,
            )  # fmt: skip
        case _:
            return reference.forward(
                q, k, v, bounds, scale=scale, softcap=softcap, sink=sink, gate=gate, **relative
            )


@attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    lse = q.new_empty((q.shape[1], q.shape[0]), dtype=torch.promote_types(q.dtype, torch.float32))
    return torch.empty_like(q, memory_format=torch.contiguous_format), lse


@operator("attention_backward")
def attention_backward(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    key_start: Tensor, key_stop: Tensor, query_start: Tensor, query_stop: Tensor, query_tiles: Tensor, key_tiles: Tensor,
    tree: bool, documents: int, gate: Tensor | None,
    scale: float, softcap: float, deterministic: bool, backend: str,
    bias: Tensor | None = None, query_positions: Tensor | None = None, key_positions: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """What ``reference.backward`` returns; ``dgate`` and ``dbias`` are empty without a gate and a bias."""
    bounds = Boundaries(key_start, key_stop, query_start, query_stop, query_tiles, key_tiles, tree, documents)
    dlse, gate = _side_by_side(dlse), _side_by_side(gate)
    arguments: dict[str, Any] = dict(
        scale=scale, softcap=softcap, gate=gate, dlse=dlse, bias=bias, positions=_pair(query_positions, key_positions)
    )  # fmt: skip
    match pick(
        backend, q, k, v,
        tree=tree, softcap=softcap, gated=gate is not None, deterministic=deterministic, biased=bias is not None,
    ):  # fmt: skip
        case Backend.HOPPER if dlse is None and not (backend == Backend.AUTO and _short(q, documents)):
            dq, dk, dv = hopper.backward(dout, q, k, v, out, lse, bounds, scale=scale)
            dgate = dbias = None
        case Backend.HOPPER | Backend.TRITON:
            from tersely.kernels.attention.triton import launch as portable

            dq, dk, dv, dgate, dbias = portable.backward(
                _strided(dout), _strided(q), _strided(k), _strided(v), _strided(out), lse, bounds, **arguments
            )  # fmt: skip
        case _:
            dq, dk, dv, dgate, dbias = reference.backward(dout, q, k, v, out, lse, bounds, **arguments)
    dgate, dbias = (
        q.new_empty(0) if gradient is None or of is None else gradient.to(of.dtype)
        for gradient, of in ((dgate, gate), (dbias, bias))
    )
    return dq, dk, dv, dgate, dbias


@attention_backward.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    key_start: Tensor, key_stop: Tensor, query_start: Tensor, query_stop: Tensor, query_tiles: Tensor, key_tiles: Tensor,
    tree: bool, documents: int, gate: Tensor | None,
    scale: float, softcap: float, deterministic: bool, backend: str, bias: Tensor | None = None, *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    dgate, dbias = (
        q.new_empty(0) if x is None else torch.empty_like(x, memory_format=torch.contiguous_format)
        for x in (gate, bias)
    )
    return dq, dk, dv, dgate, dbias


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *bounds, tree, documents, gate, sink, scale, softcap, deterministic, backend = inputs[:17]
    relative = inputs[17:] or (None,) * 3  # torch leaves out arguments that are as their defaults
    ctx.save_for_backward(q, k, v, *output, *bounds, gate, sink, *relative)
    ctx.inputs = len(inputs)
    ctx.settings = (tree, documents), (scale, softcap, deterministic, backend)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dout: Tensor | None, dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, *bounds, gate, sink, bias, query_positions, key_positions = ctx.saved_tensors
    shape, settings = ctx.settings
    if dout is None and dlse is None:
        return (None,) * ctx.inputs
    dout = torch.zeros_like(out) if dout is None else dout
    dq, dk, dv, dgate, dbias = attention_backward(
        dout, dlse, q, k, v, out, lse, *bounds, *shape, gate, *settings, bias, query_positions, key_positions
    )
    dsink = None
    if sink is not None and ctx.needs_input_grad[12]:
        dsink = reference.sink_gradient(sink, out, dout, lse, dlse)
    dgate, dbias = (None if of is None else gradient for gradient, of in ((dgate, gate), (dbias, bias)))
    return (dq, dk, dv, *(None,) * 8, dgate, dsink, *(None,) * 4, dbias, None, None)[: ctx.inputs]


attention.register_autograd(_differentiate, setup_context=_remember)


def _pair(query: Tensor | None, key: Tensor | None) -> tuple[Tensor, Tensor] | None:
    return None if query is None or key is None else (query, key)


def _side_by_side(x: Tensor | None) -> Tensor | None:
    """``x`` without gaps: kernels read gates and sinks by their address alone."""
    return None if x is None else x.contiguous()


def _short(q: Tensor, documents: int) -> bool:
    """Whether documents are so short that sums of ``dQ`` in memory cost more than the products they save."""
    return 0 < q.shape[0] <= hopper.LONGEST_SHORT * documents


def _strided(x: Tensor) -> Tensor:
    """``x`` as the copy engine can address it: heads contiguous, rows and base at multiples of 16 bytes."""
    aligned = x.stride(-1) == 1 and x.data_ptr() % 16 == 0
    aligned &= all(stride * x.element_size() % 16 == 0 for stride in x.stride()[:-1])
    # A dimension that was expanded has stride 0, which no tile can be read with.
    return (
        x
        if aligned and 0 not in x.stride()
        else x.contiguous().clone()
        if x.data_ptr() % 16
        else x.contiguous()
    )
