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
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out`` and ``lse`` of ``reference.forward``."""
    bounds = Boundaries(key_start, key_stop, query_start, query_stop, query_tiles, key_tiles, tree, documents)
    match pick(
        backend, q, k, v, tree=tree, softcap=softcap, gated=gate is not None, deterministic=deterministic
    ):
        case Backend.HOPPER:
            mean_length = q.shape[0] / documents if documents else None
            sink = None if sink is None else sink.float()
            return hopper.forward(q, k, v, bounds, scale=scale, sink=sink, mean_length=mean_length)
        case Backend.TRITON:
            from tersely.kernels.attention.triton import launch as portable

            return portable.forward(
                _strided(q), _strided(k), _strided(v), bounds, scale=scale, softcap=softcap, sink=sink, gate=gate
            )  # fmt: skip
        case _:
            return reference.forward(q, k, v, bounds, scale=scale, softcap=softcap, sink=sink, gate=gate)


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """``dq``, ``dk``, ``dv`` and ``dgate`` of ``reference.backward``; ``dgate`` is empty without a gate."""
    bounds = Boundaries(key_start, key_stop, query_start, query_stop, query_tiles, key_tiles, tree, documents)
    dlse = None if dlse is None else dlse.contiguous()
    arguments: dict[str, Any] = dict(scale=scale, softcap=softcap, gate=gate, dlse=dlse)
    match pick(
        backend, q, k, v, tree=tree, softcap=softcap, gated=gate is not None, deterministic=deterministic
    ):
        case Backend.HOPPER if dlse is None and not (backend == Backend.AUTO and _short(q, documents)):
            dq, dk, dv = hopper.backward(dout, q, k, v, out, lse, bounds, scale=scale)
            dgate = None
        case Backend.HOPPER | Backend.TRITON:
            from tersely.kernels.attention.triton import launch as portable

            dq, dk, dv, dgate = portable.backward(
                _strided(dout), _strided(q), _strided(k), _strided(v), _strided(out), lse, bounds, **arguments
            )  # fmt: skip
        case _:
            dq, dk, dv, dgate = reference.backward(dout, q, k, v, out, lse, bounds, **arguments)
    return dq, dk, dv, q.new_empty(0) if dgate is None or gate is None else dgate.to(gate.dtype)


@attention_backward.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    key_start: Tensor, key_stop: Tensor, query_start: Tensor, query_stop: Tensor, query_tiles: Tensor, key_tiles: Tensor,
    tree: bool, documents: int, gate: Tensor | None, *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    return dq, dk, dv, q.new_empty(0) if gate is None else torch.empty_like(gate)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *bounds, tree, documents, gate, sink, scale, softcap, deterministic, backend = inputs
    ctx.save_for_backward(q, k, v, *output, *bounds, gate, sink)
    ctx.settings = (tree, documents), (scale, softcap, deterministic, backend)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dout: Tensor | None, dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, *bounds, gate, sink = ctx.saved_tensors
    shape, settings = ctx.settings
    if dout is None and dlse is None:
        return (None,) * 17
    dout = torch.zeros_like(out) if dout is None else dout
    dq, dk, dv, dgate = attention_backward(dout, dlse, q, k, v, out, lse, *bounds, *shape, gate, *settings)
    dsink = None
    if sink is not None and ctx.needs_input_grad[12]:
        dsink = reference.sink_gradient(sink, out, dout, lse, dlse)
    return (dq, dk, dv, *(None,) * 8, None if gate is None else dgate, dsink, *(None,) * 4)


attention.register_autograd(_differentiate, setup_context=_remember)


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
