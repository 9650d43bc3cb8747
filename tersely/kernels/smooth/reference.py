"""The plain twin of exponential smoothing: one step in time for all documents at once.

Slow and readable: as many steps as the longest document has tokens, which it reads back from the device.

Legend: ``T`` packed tokens, ``N`` documents, ``C`` channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch


def smooth(values: torch.Tensor, weights: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    """``out[t] = w[t] * values[t] + (1 - w[t]) * out[t - 1]`` in each document; ``(T, C)``, zeros in slack rows."""
    wide = accumulator(values)
    out = torch.zeros(values.shape, dtype=wide, device=values.device)
    state = out.new_zeros(len(cu_seqlens) - 1, values.shape[1])
    for alive, rows in steps(cu_seqlens):
        weight = weights[rows].to(wide)[:, None]
        state[alive] = weight * values[rows].to(wide) + (1 - weight) * state[alive]
        out[rows] = state[alive]
    return out.to(values.dtype)


def smooth_backward(
    grad: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
    out: torch.Tensor,
    cu_seqlens: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of values ``(T, C)`` and weights ``(T,)``: the same smoothing from the right.

    ``sums[t] = grad[t] + (1 - w[t + 1]) * sums[t + 1]`` is all that reaches ``out[t]``.
    """
    wide = accumulator(values)
    sums = torch.zeros(values.shape, dtype=wide, device=values.device)
    state = sums.new_zeros(len(cu_seqlens) - 1, values.shape[1])
    for alive, rows in reversed(list(steps(cu_seqlens))):
        sums[rows] = grad[rows].to(wide) + state[alive]
        state[alive] = (1 - weights[rows].to(wide))[:, None] * sums[rows]
    before = torch.cat([out[:1] * 0, out[:-1]]).to(wide)
    before[cu_seqlens[:-1][torch.diff(cu_seqlens) > 0].long()] = 0
    inside = (torch.arange(len(values), device=values.device) < cu_seqlens[-1])[:, None]
    grad_values = torch.where(inside, weights.to(wide)[:, None] * sums, 0)
    grad_weights = torch.where(inside, sums * (values.to(wide) - before), 0).sum(1)
    return grad_values.to(values.dtype), grad_weights.to(weights.dtype)


def steps(cu_seqlens: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """For each step in time the documents that have such a token, and its row in each."""
    lengths = torch.diff(cu_seqlens)
    for step in range(int(lengths.max()) if len(lengths) else 0):
        alive = (lengths > step).nonzero()[:, 0]
        yield alive, cu_seqlens[alive].long() + step


def accumulator(values: torch.Tensor) -> torch.dtype:
    """The dtype of states: float32, or float64 for itself."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32
