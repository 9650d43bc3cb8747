"""What positions get back from their group.

    groups       [a b] [c d e]       vectors  x  y
    repeat        x x   y y y
    gather        x 0   y 0 0
    smooth        x x   z z z        z = p y + (1 - p) x, where p is the probability of the boundary at c

Smoothing and the straight-through factor are those of H-Net (arXiv 2507.07955, section 2.2): both let the loss say which
boundaries were worth it.

Legend: ``T`` packed positions, ``K`` groups, ``C`` width.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor

from tersely.compress.merge.groups import Groups
from tersely.compress.merge.policies.protocol import Choice
from tersely.errors import UsageError
from tersely.kernels import exponential_smoothing, scatter_back, segment_expand


class Expansion(StrEnum):
    """What the positions of a group get."""

    REPEAT = "repeat"
    """All of them the group's vector."""
    GATHER = "gather"
    """The first one the group's vector, the others 0."""
    SMOOTH = "smooth"
    """All of them the vectors of the document so far, smoothed exponentially by the probabilities of the boundaries."""


def expand(values: Tensor, groups: Groups, choice: Choice, expansion: Expansion) -> Tensor:
    """Vectors of groups ``(K, C)`` to positions ``(T, C)``; where there are probabilities, they get a gradient.

    Raises:
        UsageError: smoothing, and the policy gives no probabilities.
    """
    tokens = len(groups.keep)
    if expansion is Expansion.GATHER:
        out = scatter_back(values, groups.source, tokens)
    else:
        if expansion is Expansion.SMOOTH:
            values = exponential_smoothing(values, boundary_weights(choice, groups), groups.cu_seqlens)
        out = segment_expand(values, groups.starts, tokens)
    return out if choice.probability is None else out * straight_through(choice)[:, None].to(out.dtype)


def boundary_weights(choice: Choice, groups: Groups) -> Tensor:
    """The probability of each group's boundary, ``(K,)``; 1 for the first of a document."""
    if choice.probability is None:
        raise UsageError("smoothing needs a policy with probabilities: use the router, or expand='repeat'")
    return choice.probability[groups.source].masked_fill(groups.positions == 0, 1)


def straight_through(choice: Choice) -> Tensor:
    """A factor of 1 for each position, ``(T,)``, whose gradient is that of the probability of what was decided."""
    assert choice.probability is not None
    decided = choice.probability.where(choice.keep, 1 - choice.probability)
    return decided + (1 - decided).detach()
