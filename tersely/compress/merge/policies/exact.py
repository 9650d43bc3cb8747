"""exact_rate: any policy at exactly one rate, by keeping the best of each document.

    scores   .1 .9 .3 .7 | .2 .8        share 1/2      keep   1 1 0 0 | 1 0

Legend: ``T`` packed positions, ``N`` documents.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from tersely.compress.merge.policies.protocol import Choice
from tersely.errors import UsageError
from tersely.kernels.segment import positions_of_tokens, segments_of_tokens


def exact_rate(choice: Choice, cu_seqlens: Tensor, share: float) -> Choice:
    """The choice that keeps ``ceil(share * length)`` positions of each document: the first, then by score, ties in order.

    Never waits for the device. A score is compared with those after it, so no policy stays causal by this, and a
    decoder may not use it: there ``StridePolicy`` is exact as it is.

    Args:
        choice: its scores, ``(T,)``, decide.
        cu_seqlens: ``(N + 1,)``, int32 or int64; rows past the last document are slack.
        share: of positions that stay, above 0 and at most 1.

    Raises:
        UsageError: the share is out of range.
    """
    tokens = len(choice.score)
    documents = segments_of_tokens(cu_seqlens, tokens)
    positions = positions_of_tokens(cu_seqlens, tokens)
    score = choice.score.detach().masked_fill(positions == 0, torch.inf)
    order = score.argsort(descending=True, stable=True)
    order = order[documents[order].argsort(stable=True)]
    # Documents stand together in this order as in the packed rows, so a place has the same rank in both.
    quota = torch.cat([kept_of(cu_seqlens.long().diff(), as_fraction(share)), positions.new_zeros(1)])
    keep = torch.empty_like(choice.keep)
    keep[order] = (positions >= 0) & (positions < quota[documents])
    return replace(choice, keep=keep)


def kept_of(lengths: Tensor, share: Fraction) -> Tensor:
    """``ceil(share * length)`` of each, in whole numbers."""
    return (lengths * share.numerator + share.denominator - 1) // share.denominator


def as_fraction(share: float) -> Fraction:
    """A share as it was meant: 0.1 is a tenth. Raises UsageError unless it is above 0 and at most 1."""
    if not 0 < share <= 1:
        raise UsageError(f"a share of {share} cannot be kept: give one above 0 and at most 1")
    return max(Fraction(share).limit_denominator(1 << 16), Fraction(1, 1 << 16))
