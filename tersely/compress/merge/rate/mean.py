"""mean_of: the mean over positions, which is what every rate is."""

from __future__ import annotations

from torch import Tensor

from tersely.kernels.segment import slack_rows


def mean_of(values: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The mean of packed numbers or truths ``(T,)``, a scalar, without rows past the last document; 0 if there are no others."""
    counted = values.masked_fill(slack_rows(cu_seqlens, len(values)), 0)
    return counted.sum() / cu_seqlens[-1].clamp(min=1)
