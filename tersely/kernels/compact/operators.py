"""The operators under compaction: where rows go, and the move itself, whose gradient is the move back.

Legend: ``T`` packed tokens, ``N`` segments, ``K`` rows of the result, ``C`` columns.
"""

from __future__ import annotations

from typing import Any

import torch

from tersely.kernels.backend import runs_triton
from tersely.kernels.compact import reference
from tersely.kernels.operator import operator
from tersely.kernels.rows import as_rows


@operator("compact_plan")
def compact_plan(
    keep: torch.Tensor, cu_seqlens: torch.Tensor, capacity: int, backend: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where kept rows come from ``(K,)``, where rows go ``(T,)``, both int64 and -1 for nowhere; new boundaries."""
    if runs_triton(backend, keep):
        from tersely.kernels.compact.triton_plan import planned

        return planned(keep, cu_seqlens, capacity)
    return reference.plan(keep, cu_seqlens, capacity)


@compact_plan.register_fake
def _(
    keep: torch.Tensor, cu_seqlens: torch.Tensor, capacity: int, backend: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = keep.new_empty(capacity, dtype=torch.int64)
    return source, keep.new_empty(len(keep), dtype=torch.int64), cu_seqlens.new_empty(len(cu_seqlens))


@operator("invert_rows")
def invert_rows(source: torch.Tensor, rows: int, backend: str) -> torch.Tensor:
    """For each of ``rows`` rows the place in ``source`` ``(K,)`` that names it, int64, -1 where none does."""
    if runs_triton(backend, source):
        from tersely.kernels.compact.triton_plan import inverted

        return inverted(source, rows)
    return reference.invert(source, rows)


@invert_rows.register_fake
def _(source: torch.Tensor, rows: int, backend: str) -> torch.Tensor:
    return source.new_empty(rows)


@operator("move_rows")
def move_rows(values: torch.Tensor, source: torch.Tensor, target: torch.Tensor, backend: str) -> torch.Tensor:
    """Rows ``(K, C)``: ``values[source]``, zeros where ``source`` is -1.

    ``target`` is the inverse of ``source``: it has the place in the result of each row of ``values``, or -1. So a
    gradient is one more gather, and no row is added to twice.
    """
    if runs_triton(backend, values):
        from tersely.kernels.compact.triton_move import moved

        return moved(as_rows(values), source)
    return reference.move(values, source)


@move_rows.register_fake
def _(values: torch.Tensor, source: torch.Tensor, target: torch.Tensor, backend: str) -> torch.Tensor:
    return values.new_empty(len(source), values.shape[1])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, source, target, ctx.backend = inputs
    ctx.save_for_backward(source, target)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    source, target = ctx.saved_tensors
    return move_rows(grad, target, source, ctx.backend), None, None, None


move_rows.register_autograd(_backward, setup_context=_remember)
