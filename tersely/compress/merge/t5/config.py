"""What a merging T5 is made of: T5's own settings, and which positions go, where."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from torch import nn
from transformers import T5Config

from tersely.compress.merge.policies import DeleteGate
from tersely.errors import UsageError, choose


class Policy(StrEnum):
    """Who stays."""

    GATE = "gate"
    """What a ``DeleteGate`` has learned to keep."""
    NONE = "none"
    """All: T5 as it is."""


class MergingByT5Config(T5Config):
    """``T5Config`` and what follows; a T5's own folder loads with the defaults.

    Args:
        gate_layer: blocks before the policy, from 0 to all.
        policy: a ``Policy``.
        gate_scale: ``k`` of the gate, negative.
        gate_noise: Gumbel noise in training.
        softmax_plus_one: an extra one in the denominator of every softmax, so that a query may look at nothing. For models
            that were trained so.

    Raises:
        UsageError: one of them is out of range.
    """

    model_type = "merging_byt5"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "keep", "gate"]

    gate_layer: int = 3
    policy: str = "gate"
    gate_scale: float = -30.0
    gate_noise: bool = False
    softmax_plus_one: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        choose(Policy, self.policy)
        if self.gate_scale >= 0:
            raise UsageError(f"gate_scale is {self.gate_scale}: give a negative number")


def policy_of(config: MergingByT5Config) -> nn.Module | None:
    """The policy that a configuration names.

    Raises:
        UsageError: it should stand after more blocks than there are.
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
