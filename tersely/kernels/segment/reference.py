"""The plain twins of the segment operators: whole-array PyTorch, any device, float64 too.

Legend: ``T`` packed tokens, ``N`` segments, ``C`` channels, ``H`` heads of ``C // H`` channels.
"""

from __future__ import annotations

import torch

from tersely.kernels.segment.places import segments_of_tokens


def reduce(values: torch.Tensor, cu_seqlens: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums, means or maxima ``(N, C)`` of values ``(T, C)``; and for maxima the first row of each, else nothing."""
    if kind == "max":
        return _maxima(values, cu_seqlens)
    number = len(cu_seqlens) - 1
    segments = segments_of_tokens(cu_seqlens, len(values))
    wide = values.to(accumulator(values))
    sums = wide.new_zeros(number + 1, values.shape[1]).index_add_(0, segments, wide)[:number]
    if kind == "mean":
        sums = sums / torch.diff(cu_seqlens).clamp(min=1)[:, None]
    return sums.to(values.dtype), values.new_empty(0, dtype=torch.int32)


def _maxima(values: torch.Tensor, cu_seqlens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    number, columns = len(cu_seqlens) - 1, values.shape[1]
    segments = segments_of_tokens(cu_seqlens, len(values))
    index = segments[:, None].expand(values.shape)
    best = values.new_full((number + 1, columns), -torch.inf).scatter_reduce_(0, index, values, "amax")
    here = (values == best[segments]) | (values.isnan() & best[segments].isnan())
    rows = torch.where(here, torch.arange(len(values), device=values.device)[:, None], len(values))
    first = torch.full_like(best, len(values), dtype=torch.int64).scatter_reduce_(0, index, rows, "amin")
    empty = (torch.diff(cu_seqlens) == 0)[:, None]
    return best[:number].masked_fill(empty, 0), first[:number].masked_fill(empty, -1).to(torch.int32)


def expand(values: torch.Tensor, cu_seqlens: torch.Tensor, tokens: int, mean: bool) -> torch.Tensor:
    """Rows ``(T, C)`` of values ``(N, C)``, divided by the segment's length if ``mean``; zeros in slack rows."""
    if mean:
        wide = values.to(accumulator(values)) / torch.diff(cu_seqlens).clamp(min=1)[:, None]
        values = wide.to(values.dtype)
    segments = segments_of_tokens(cu_seqlens, tokens)
    return torch.cat([values, values.new_zeros(1, values.shape[1])])[segments]


def select(grad: torch.Tensor, rows: torch.Tensor, cu_seqlens: torch.Tensor, tokens: int) -> torch.Tensor:
    """The gradient of maxima: ``(T, C)``, with ``grad`` ``(N, C)`` in the rows that won and zeros elsewhere."""
    out = grad.new_zeros(tokens + 1, grad.shape[1])
    out.scatter_(0, torch.where(rows < 0, tokens, rows).long(), grad)
    return out[:tokens]


def softmax_pool(
    values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums ``(N, C)`` weighted by the softmax, in each segment, of weights ``(T, H)``; and its log-sum-exp."""
    number, heads = len(cu_seqlens) - 1, weights.shape[1]
    segments = segments_of_tokens(cu_seqlens, len(values))
    scores = weights.to(accumulator(values))
    index = segments[:, None].expand(scores.shape)
    top = scores.new_full((number + 1, heads), -torch.inf).scatter_reduce_(0, index, scores, "amax")
    top = top.masked_fill(top == -torch.inf, 0)
    shifted = torch.exp(scores - top[segments])
    total = torch.zeros_like(top).index_add_(0, segments, shifted)
    shares = torch.where(total[segments] > 0, shifted / total[segments], 0)
    weighted = _by_head(values, heads).to(scores.dtype) * shares[:, :, None]
    sums = scores.new_zeros(number + 1, *weighted.shape[1:]).index_add_(0, segments, weighted)
    return sums[:number].flatten(1).to(values.dtype), (top + torch.log(total))[:number]


def softmax_pool_backward(
    grad: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seqlens: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of values ``(T, C)`` and weights ``(T, H)``; zeros in slack rows."""
    tokens, heads = weights.shape
    wide = accumulator(values)
    norms = expand(lse, cu_seqlens, tokens, mean=False)
    inside = segments_of_tokens(cu_seqlens, tokens) < len(cu_seqlens) - 1
    shares = torch.where(inside[:, None] & (norms > -torch.inf), torch.exp(weights.to(wide) - norms), 0)
    grads = _by_head(expand(grad.to(wide), cu_seqlens, tokens, mean=False), heads)
    outs = _by_head(expand(out.to(wide), cu_seqlens, tokens, mean=False), heads)
    inner = torch.where(inside[:, None], (grads * (_by_head(values, heads).to(wide) - outs)).sum(2), 0)
    grad_values = (grads * shares[:, :, None]).flatten(1)
    return grad_values.to(values.dtype), (shares * inner).to(weights.dtype)


def accumulator(values: torch.Tensor) -> torch.dtype:
    """The dtype that sums are made in: float32, or float64 for itself."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _by_head(values: torch.Tensor, heads: int) -> torch.Tensor:
    return values.reshape(len(values), heads, values.shape[1] // heads)
