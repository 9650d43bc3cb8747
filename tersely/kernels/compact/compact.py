"""compact: the kept rows of packed values, close together; and scatter_back, its inverse.

    values       a b c d e f .        keep 1 0 1 0 0 1 1      cu_seqlens 0 3 6 (one slack row)
    compacted    a c f                source 0 2 5            cu_seqlens 0 2 3
    back         a 0 c 0 0 f 0

Legend: ``T`` packed tokens, ``N`` segments, ``K`` rows of the result, ``C`` channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from tersely.errors import KernelError
from tersely.kernels.backend import Backend
from tersely.kernels.checks import check_cu_seqlens, check_device, check_rows
from tersely.kernels.compact.operators import compact_plan, invert_rows, move_rows


class Compacted(NamedTuple):
    """What ``compact`` returns."""

    values: torch.Tensor
    """The kept rows, ``(K, C...)``; zeros in slack rows."""
    cu_seqlens: torch.Tensor
    """Boundaries of the kept rows, ``(N + 1,)``, of the dtype they were given in."""
    source: torch.Tensor
    """The row each one was, ``(K,)`` int64; -1 in slack rows."""


def compact(
    values: torch.Tensor,
    keep: torch.Tensor,
    cu_seqlens: torch.Tensor,
    capacity: int | None = None,
    *,
    backend: Backend | str = "auto",
) -> Compacted:
    """The kept rows of packed values, in their order, with boundaries and origins: pruning, or merging after a gate.

    With ``capacity`` nothing waits for the device, so a CUDA graph can be replayed for other ``keep``. Without it the
    result has exactly the kept rows, and the host waits once for their number.

    Args:
        values: ``(T, C...)``, any dtype; rows may be strided. Differentiable if of floats.
        keep: ``(T,)``, bool.
        cu_seqlens: ``(N + 1,)``, int32 or int64. Rows past ``cu_seqlens[-1]`` are slack and never kept.
        capacity: ``K``, rows of the result. Rows kept beyond it are dropped, and the boundaries end at it.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or Triton was named and cannot run.
    """
    check_cu_seqlens(cu_seqlens, values)
    check_rows("keep", keep, len(values))
    check_device("keep", keep, values)
    if keep.ndim != 1 or keep.dtype != torch.bool:
        raise KernelError(f"keep is {keep.dtype} of shape {tuple(keep.shape)}: give bool of shape (T,)")
    if capacity is not None and capacity < 0:
        raise KernelError(f"capacity is {capacity}: give the number of rows of the result, or None")
    rows = len(values) if capacity is None else capacity
    source, target, boundaries = compact_plan(keep, cu_seqlens, rows, backend)
    if capacity is None:
        source = source[: int(boundaries[-1])]
    return Compacted(_move(values, source, target, backend), boundaries, source)


def scatter_back(
    values: torch.Tensor, source: torch.Tensor, tokens: int, *, backend: Backend | str = "auto"
) -> torch.Tensor:
    """Puts compacted rows where they were: ``(T, C...)`` with ``values[i]`` in row ``source[i]`` and zeros elsewhere.

    Never waits for the device; differentiable.

    Args:
        values: ``(K, C...)``, any dtype.
        source: ``(K,)``, int64, each row at most once; -1 for rows that go nowhere.
        tokens: ``T``, rows of the result.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or Triton was named and cannot run.
    """
    check_rows("source", source, len(values))
    check_device("source", source, values)
    if source.ndim != 1 or source.dtype != torch.int64:
        raise KernelError(
            f"source is {source.dtype} of shape {tuple(source.shape)}: give int64 of shape (K,)"
        )
    if tokens < 0:
        raise KernelError(f"tokens is {tokens}: give the number of rows of the result")
    return _move(values, invert_rows(source, tokens, backend), source, backend)


def _move(values: torch.Tensor, source: torch.Tensor, target: torch.Tensor, backend: str) -> torch.Tensor:
    rows = values.flatten(1) if values.ndim > 1 else values[:, None]
    return move_rows(rows, source, target, backend).reshape(len(source), *values.shape[1:])
