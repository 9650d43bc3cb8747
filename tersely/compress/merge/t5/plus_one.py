"""Softmax with an extra one in its denominator, as an attention of transformers: for the decoder in ``generate``.

    weights = exp(x) / (1 + sum exp(x))        one more key, whose score is 0 and whose value is nothing

Legend: ``B`` rows, ``L`` queries and ``K`` keys of a row, ``H`` heads, ``D`` head dimension.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

NAME = "tersely_plus_one"


def register() -> str:
    """Makes it known to transformers, with masks that are added to scores. Returns its name."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)
    return NAME


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float = 1.0,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """What transformers calls in each layer of T5.

    Args:
        module: the layer's attention.
        query: ``(B, H, L, D)``.
        key: ``(B, H, K, D)``.
        value: ``(B, H, K, D)``.
        attention_mask: floats that are added to the scores ``(B, H, L, K)``.
        scaling: factor of the products.
        position_bias: added too.

    Returns:
        ``(B, L, H, D)``, and the weights ``(B, H, L, K)``.
    """
    scores = (query @ key.transpose(2, 3) * scaling).float()
    for added in (position_bias, attention_mask):
        scores = scores if added is None else scores + added
    weights = nn.functional.pad(scores, (0, 1)).softmax(-1)[..., :-1].to(value.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights
