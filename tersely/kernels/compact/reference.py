"""The plain twins of the compaction operators: whole-array PyTorch, any device, any dtype.

Legend: ``T`` packed tokens, ``N`` segments, ``K`` rows of the result, ``C`` columns.
"""

from __future__ import annotations

import torch


def plan(
    keep: torch.Tensor, cu_seqlens: torch.Tensor, capacity: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where kept rows come from ``(capacity,)``, where rows go ``(T,)`` (-1 for nowhere), and the new boundaries."""
    tokens = len(keep)
    places = torch.arange(tokens, device=keep.device)
    kept = keep & (places < cu_seqlens[-1])
    before = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)])
    target = torch.where(kept & (before[:-1] < capacity), before[:-1], -1)
    source = torch.full((capacity + 1,), -1, device=keep.device)
    source.scatter_(0, torch.where(target < 0, capacity, target), places)
    boundaries = before[cu_seqlens.long()].clamp(max=capacity)
    return source[:capacity], target, boundaries.to(cu_seqlens.dtype)


def move(values: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Rows ``(K, C)``: ``values[source]``, and zeros where ``source`` is -1."""
    return torch.cat([values, values.new_zeros(1, values.shape[1])])[source]


def invert(source: torch.Tensor, rows: int) -> torch.Tensor:
    """For each of ``rows`` rows the place in ``source`` that names it, -1 where none does."""
    target = torch.full((rows + 1,), -1, device=source.device)
    target.scatter_(0, torch.where(source < 0, rows, source), torch.arange(len(source), device=source.device))
    return target[:rows]
