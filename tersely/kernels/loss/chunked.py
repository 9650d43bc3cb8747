"""The loop over chunks of labelled rows: product, loss, gradients, with one chunk of logits at a time.

Legend: ``T`` packed tokens, ``C`` channels, ``V`` the vocabulary, ``K`` rows with a label.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from tersely.kernels.backend import runs_triton
from tersely.kernels.compact.operators import compact_plan, move_rows
from tersely.kernels.loss import reference
from tersely.kernels.segment.reference import accumulator


class Gradients(NamedTuple):
    """Which gradients are wanted."""

    hidden: bool
    weight: bool
    bias: bool


def loss_and_gradients(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    softcap: float,
    chunk: int,
    rows: int,
    exact: bool,
    wanted: Gradients,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The mean loss, and the gradients that are wanted, of the first ``rows`` rows with a label.

    ``exact`` waits for the number of labels, so that no product is made for rows that are none.
    """
    source, target, own, count = _labelled(labels, rows, exact, backend)
    wide = accumulator(hidden)
    total = hidden.new_zeros((), dtype=wide)
    moved = hidden.new_zeros(len(source) if wanted.hidden else 0, hidden.shape[1])
    weight_grad = weight.new_zeros(weight.shape if wanted.weight else 0, dtype=wide)
    bias_grad = weight.new_zeros(len(weight) if wanted.bias else 0, dtype=wide)
    share = (1 / count.to(wide)).expand(min(chunk, len(source))).contiguous()
    for start in range(0, len(source), chunk):
        part = slice(start, start + chunk)
        states = move_rows(hidden, source[part], target, backend)
        logits = states @ weight.T if bias is None else torch.addmm(bias, states, weight.T)
        losses, slopes = _slopes(logits, own[part], share[: len(states)], softcap, any(wanted), backend)
        total += losses.sum()
        if wanted.hidden:
            torch.mm(slopes, weight, out=moved[part])
        if wanted.weight:
            weight_grad += _wide_product(slopes.T, states)
        if wanted.bias:
            bias_grad += slopes.sum(0, dtype=wide)
    hidden_grad = move_rows(moved, target, source, backend) if wanted.hidden else moved.new_empty(0)
    return total / count, hidden_grad, weight_grad.to(weight.dtype), bias_grad.to(weight.dtype)


def _labelled(
    labels: torch.Tensor, rows: int, exact: bool, backend: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows with a label: where they are, where each row goes, their labels, and how many there are (at least 1)."""
    whole = torch.arange(2, device=labels.device) * len(labels)
    source, target, bounds = compact_plan(labels != reference.NO_LABEL, whole, rows, backend)
    if exact:
        source = source[: int(bounds[-1])]
    own = move_rows(labels[:, None], source, target, backend)[:, 0]
    own = own.masked_fill(source < 0, reference.NO_LABEL)
    return source, target, own, bounds[-1].clamp(min=1)


def _slopes(
    logits: torch.Tensor,
    labels: torch.Tensor,
    share: torch.Tensor,
    softcap: float,
    wanted: bool,
    backend: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of these rows, and (if wanted) the gradients of their logits: Triton writes them over the logits."""
    if not runs_triton(backend, logits):
        losses, norms = reference.rows(logits, labels, softcap)
        return losses, reference.gradients(share, logits, labels, norms, softcap) if wanted else logits
    from tersely.kernels.loss.triton_cross_entropy import row_gradients, row_losses

    losses, norms = row_losses(logits, labels, softcap)
    return losses, row_gradients(share, logits, labels, norms, softcap, logits) if wanted else logits


def _wide_product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The product in the dtype that sums are made in; only CUDA keeps float32 of 16-bit products."""
    wide = accumulator(one)
    if one.is_cuda and one.dtype != wide:
        return torch.mm(one, other, out_dtype=wide)
    return (one @ other).to(wide)
