"""exponential_smoothing: each position is some of its own value and the rest of what the position before came to.

    values  a b | c d e        weights 1 .5 | 1 0 .2        | begins a document
    out     a, (a + b) / 2 | c, c, .2 e + .8 c

Legend: ``T`` packed tokens, ``N`` segments, ``C`` channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tersely.errors import KernelError
from tersely.kernels.backend import Backend
from tersely.kernels.checks import check_cu_seqlens, check_device, check_floats, check_rows
from tersely.kernels.rows import as_rows
from tersely.kernels.smooth.operators import recurrence


def exponential_smoothing(
    values: Tensor, weights: Tensor, cu_seqlens: Tensor, *, backend: Backend | str = "auto"
) -> Tensor:
    """``out[t] = weights[t] * values[t] + (1 - weights[t]) * out[t - 1]``, with nothing before a document.

    This spreads the vectors of chunks over their positions in H-Net (Hwang et al. 2025, arXiv 2507.07955, section 2.2), where
    it is run by a state-space library. Adds in float32 (float64 for itself); the same input gives the same bits. Never waits
    for the device: launches depend on ``T`` and ``C`` alone.

    Args:
        values: ``(T, C...)``, float16, bfloat16, float32 or float64.
        weights: ``(T,)``, floats, each from 0 to 1; differentiable, as the values are.
        cu_seqlens: ``(N + 1,)``, int32 or int64: ``cu_seqlens[0] == 0``, non-decreasing, at most ``T``.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Returns:
        ``(T, C...)`` of the dtype of ``values``; zeros in slack rows past ``cu_seqlens[-1]``, which get no gradient.

    Raises:
        KernelError: shapes, dtypes or devices do not fit, or Triton was named and cannot run.
    """
    check_floats("values", values)
    check_floats("weights", weights)
    check_rows("weights", weights, len(values))
    check_device("weights", weights, values)
    check_cu_seqlens(cu_seqlens, values)
    if weights.ndim != 1:
        raise KernelError(f"weights has shape {tuple(weights.shape)}: give one number for each token, (T,)")
    tokens = len(values)
    places = torch.arange(tokens, device=values.device)
    begins = places.new_zeros(tokens + 1, dtype=torch.bool).index_fill(0, cu_seqlens[:-1].long(), True)[:-1]
    real = places < cu_seqlens[-1]
    wide = weights.double() if values.dtype == torch.float64 else weights.float()
    decay = torch.where(begins | ~real, 0, 1 - wide)
    out = recurrence(as_rows(values), decay, torch.where(real, wide, 0), str(backend))
    return out.reshape(values.shape)
