"""The operators of rotary embedding: into new tensors (its gradient is the inverse rotation), and in place.

Legend: ``T`` packed tokens, ``N`` segments, ``H`` heads, ``K`` key heads, ``D`` head dimension.
"""

from __future__ import annotations

from typing import Any

import torch

from tersely.kernels.backend import runs_triton
from tersely.kernels.operator import operator
from tersely.kernels.rotary import reference


@operator("rotary")
def rotary_new(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    interleaved: bool,
    inverse: bool,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``q`` ``(T, H, D)`` and ``k`` ``(T, K, D)`` rotated, contiguous; by the negative angles if ``inverse``."""
    q_out, k_out = q.new_empty(q.shape), k.new_empty(k.shape)
    _rotate(q, k, cos, sin, cu_seqlens, position_ids, interleaved, inverse, backend, q_out, k_out)
    return q_out, k_out


@rotary_new.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    interleaved: bool,
    inverse: bool,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, _, *tables, ctx.interleaved, ctx.inverse, ctx.backend = inputs
    ctx.save_for_backward(*tables)


def _backward(ctx: Any, q_grad: torch.Tensor, k_grad: torch.Tensor) -> tuple[Any, ...]:
    options = (ctx.interleaved, not ctx.inverse, ctx.backend)
    return *rotary_new(q_grad, k_grad, *ctx.saved_tensors, *options), *(None,) * 7


rotary_new.register_autograd(_backward, setup_context=_remember)


@torch.library.custom_op("tersely::rotary_", mutates_args=("q", "k"))
def rotary_in_place(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    interleaved: bool,
    backend: str,
) -> None:
    """Rotates ``q`` ``(T, H, D)`` and ``k`` ``(T, K, D)`` where they are."""
    _rotate(q, k, cos, sin, cu_seqlens, position_ids, interleaved, False, backend, q, k)


@rotary_in_place.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    interleaved: bool,
    backend: str,
) -> None:
    return None


def _rotate(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    interleaved: bool,
    inverse: bool,
    backend: str,
    q_out: torch.Tensor,
    k_out: torch.Tensor,
) -> None:
    if not runs_triton(backend, q):
        positions, real = reference.positions_of(len(q), cu_seqlens, position_ids, q.device)
        for values, out in ((q, q_out), (k, k_out)):
            out.copy_(reference.rotate(values, cos, sin, positions, real, interleaved, inverse))
        return
    from tersely.kernels.rotary.triton_rotary import rotated

    cos, sin = (table if table.stride(1) == 1 else table.contiguous() for table in (cos, sin))
    if q is not q_out:  # in place, the door has seen to it
        q, k = (values if values.stride(2) == 1 else values.contiguous() for values in (q, k))
    places = None if position_ids is None else position_ids.contiguous()
    rotated(q, k, cos, sin, cu_seqlens, places, interleaved, inverse, q_out, k_out)
