# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""Cross-entropy in Triton: forward reads each row of logits once, backward reads and writes it once, also in place.

Legend: ``T`` rows, ``V`` the vocabulary.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.loss.reference import NO_LABEL
from tersely.kernels.rows import power_of_two

WIDEST = 4096
WARPS = 8


def row_losses(
    logits: torch.Tensor, labels: torch.Tensor, softcap: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and the log-sum-exp of each row ``(T,)``, float32."""
    rows, columns = logits.shape
    losses, norms = (logits.new_empty(rows, dtype=torch.float32) for _ in range(2))
    if rows:
        block = min(WIDEST, power_of_two(columns))
        _losses[(rows,)](
            logits, labels, losses, norms, columns, logits.stride(0), softcap, NO_LABEL, softcap != 0, block,
            num_warps=WARPS,
        )  # fmt: skip
    return losses, norms


def row_gradients(
    grad: torch.Tensor,
    logits: torch.Tensor,
    labels: torch.Tensor,
    norms: torch.Tensor,
    softcap: float,
    out: torch.Tensor,
) -> torch.Tensor:
    """Writes the gradient of the logits ``(T, V)`` to ``out``, which may be ``logits``, and returns it."""
    rows, columns = logits.shape
    if rows and columns:
        block = min(WIDEST, power_of_two(columns))
        blocks = triton.cdiv(columns, block)
        _gradients[(rows * blocks,)](
            grad, logits, labels, norms, out, columns, logits.stride(0), out.stride(0), softcap, blocks,
            NO_LABEL, softcap != 0, block, num_warps=WARPS,
        )  # fmt: skip
    return out


@triton.jit
def _capped(logits, softcap):
    """``softcap * tanh(logits / softcap)``, with a tanh that neither overflows nor needs a library."""
    return softcap * (2 * tl.sigmoid(2 * logits / softcap) - 1)


@triton.jit
def _losses(
    logits, labels, losses, norms, columns, stride, softcap,
    NO_LABEL: tl.constexpr, CAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels + row)
    loss, norm = 0.0, 0.0
    if label != NO_LABEL:
        line = logits + row * stride
        top = -float("inf")
        sums = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, columns, BLOCK):
            places = start + tl.arange(0, BLOCK)
            part = tl.load(line + places, mask=places < columns, other=-float("inf")).to(tl.float32)
            if CAP:
                part = tl.where(places < columns, _capped(part, softcap), -float("inf"))
            raised = tl.maximum(top, tl.max(part, 0))
            # While all are -inf there is nothing to scale, and -inf - -inf would be NaN.
            base = tl.where(raised == -float("inf"), 0.0, raised)
            sums = sums * tl.exp(top - base) + tl.exp(part - base)
            top = raised
        norm = top + tl.log(tl.sum(sums, 0))
        known = (label >= 0) & (label < columns)
        own = tl.load(line + tl.where(known, label, 0)).to(tl.float32)
        if CAP:
            own = _capped(own, softcap)
        loss = norm - tl.where(known, own, float("nan"))
    tl.store(losses + row, loss)
    tl.store(norms + row, norm)


@triton.jit(do_not_specialize=["blocks"])
def _gradients(
    grad, logits, labels, norms, out, columns, stride, out_stride, softcap, blocks,
    NO_LABEL: tl.constexpr, CAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // blocks).to(tl.int64)
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    label = tl.load(labels + row)
    slope = tl.zeros((BLOCK,), tl.float32)
    if label != NO_LABEL:
        part = tl.load(logits + row * stride + places, mask=inside, other=0).to(tl.float32)
        if CAP:
            part = _capped(part, softcap)
        share = tl.exp(part - tl.load(norms + row))
        slope = (share - tl.where(places == label, 1.0, 0.0)) * tl.load(grad + row)
        if CAP:
            slope *= 1 - (part / softcap) * (part / softcap)
    tl.store(out + row * out_stride + places, slope, mask=inside)
