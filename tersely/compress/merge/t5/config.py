"""What a merging T5 is made of: T5's own settings, and which positions go, where."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from torch import nn
from transformers import T5Config

from tersely.compress.merge.policies import DeleteGate, FixedPolicy, RandomPolicy, StridePolicy
from tersely.compress.merge.policies.exact import as_fraction
from tersely.errors import UsageError, choose


class Policy(StrEnum):
    """Who stays."""

    GATE = "gate"
    """What a ``DeleteGate`` has learned to keep."""
    RANDOM = "random"
    """A ``share`` of each document, drawn by a seed."""
    FIXED = "fixed"
    """The beginning of each word, a ``share`` of it."""
    STRIDE = "stride"
    """A ``share``, as evenly as can be."""
    NONE = "none"
    """All: T5 as it is."""


class MergingByT5Config(T5Config):
    """``T5Config`` and what follows; a T5's own folder loads with the defaults.

    Args:
        gate_layer: blocks before the policy, from 0 to all.
        policy: a ``Policy``.
        share: of positions that stay: for ``random``, ``fixed`` and ``stride``, which need it. With it a gate keeps the best
            of each document, so many exactly, whatever its threshold says.
        gate_scale: ``k`` of the gate, negative.
        gate_noise: Gumbel noise in training.
        softmax_plus_one: an extra one in the denominator of every softmax, so that a query may look at nothing. For models
            that were trained so.

    Raises:
        UsageError: one of them is out of range.
    """

    model_type = "merging_byt5"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "past_key_values",
        "keep",
        "gate",
        "deleted",
        "gate_mean",
    ]

    gate_layer: int = 3
    policy: str = "gate"
    share: float | None = None
    gate_scale: float = -30.0
    gate_noise: bool = False
    softmax_plus_one: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        choose(Policy, self.policy)
        if self.gate_scale >= 0:
            raise UsageError(f"gate_scale is {self.gate_scale}: give a negative number")
        if self.share is not None:
            as_fraction(self.share)


def policy_of(config: MergingByT5Config) -> nn.Module | None:
    """The policy that a configuration names, before its exact rate.

    Raises:
        UsageError: it should stand after more blocks than there are, or needs a share.
    """
    if not 0 <= config.gate_layer <= config.num_layers:
        raise UsageError(
            f"gate_layer is {config.gate_layer}, but the encoder has {config.num_layers} layers: give one of 0 to "
            f"{config.num_layers}"
        )
    match choose(Policy, config.policy):
        case Policy.GATE:
            return DeleteGate(config.d_model, config.gate_scale, config.gate_noise)
        case Policy.NONE:
            return None
        case control if config.share is None:
            raise UsageError(f"policy {str(control)!r} needs a share of positions that stay: give share")
        case Policy.RANDOM:
            return RandomPolicy(config.share)
        case Policy.FIXED:
            return FixedPolicy(config.share, first_byte=3)
        case Policy.STRIDE:
            return StridePolicy(config.share)


def is_exact(config: MergingByT5Config) -> bool:
    """Whether the best of each document stay, a share exactly, whatever the policy decided."""
    return config.share is not None and config.policy in (Policy.GATE, Policy.RANDOM)
