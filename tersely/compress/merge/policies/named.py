"""make_policy: a policy from its name, as configurations have it."""

from __future__ import annotations

from enum import StrEnum

from tersely.compress.merge.policies.entropy import EntropyPolicy
from tersely.compress.merge.policies.protocol import BoundaryPolicy
from tersely.compress.merge.policies.random import RandomPolicy
from tersely.compress.merge.policies.router import RouterPolicy
from tersely.compress.merge.policies.space import SpacePolicy
from tersely.compress.merge.policies.stride import StridePolicy
from tersely.errors import choose


class Policy(StrEnum):
    """The policies that a decoder may use."""

    STRIDE = "stride"
    """Every k-th position."""
    RANDOM = "random"
    """Drawn by a seed."""
    SPACE = "space"
    """Where words begin."""
    ENTROPY = "entropy"
    """Where the next byte is hard to tell; must be fitted to texts."""
    ROUTER = "router"
    """Where neighbours differ, learned."""
    ALL = "all"
    """Everywhere, so nothing is merged."""


def make_policy(name: Policy | str, *, width: int, share: float, seed: int = 0) -> BoundaryPolicy:
    """A new policy.

    Args:
        name: see ``Policy``.
        width: of the states that it will see.
        share: of positions that stay, for those that take it as they are.
        seed: for random ones.

    Raises:
        UsageError: there is no such policy, or the share is out of range.
    """
    match choose(Policy, name):
        case Policy.STRIDE:
            return StridePolicy(share)
        case Policy.RANDOM:
            return RandomPolicy(share, seed)
        case Policy.SPACE:
            return SpacePolicy()
        case Policy.ENTROPY:
            return EntropyPolicy()
        case Policy.ROUTER:
            return RouterPolicy(width)
        case Policy.ALL:
            return StridePolicy(1.0)
