"""Which models can run on packed rows without a cache of transformers: those of which it is certain, and no others.

A packed row is right only if every layer that mixes tokens goes through transformers' attention interface, is causal
(for generation), and knows positions from ``position_ids``. What breaks one of these is refused by name.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from tersely.errors import PackError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION = {"full_attention", "sliding_attention"}
_GROWING = {"dynamic", "longrope"}
"""Rotary embeddings whose frequencies depend on the longest prompt of the batch."""


@dataclass(frozen=True)
class Traits:
    """What a model asks of those who run it on packed rows.

    Attributes:
        layers: how many of its layers attend.
        first_position: the position of a document's first token.
        longest_together: prompts longer than this change the positions of others in their batch; None for no such limit.
        takes: keyword arguments of its ``forward``, or None where it takes any.
    """

    layers: int
    first_position: int
    longest_together: int | None
    takes: frozenset[str] | None

    def accepts(self, name: str) -> bool:
        """Whether ``forward`` takes this argument."""
        return self.takes is None or name in self.takes


def check_decoder(model: PreTrainedModel) -> Traits:
    """The traits of a causal language model.

    Raises:
        PackError: it cannot run on packed rows; the message says why.
    """
    modules = list(model.modules())  # a walk takes as long as a layer of a small batch
    traits = _checked(model, modules)
    causal = [m.is_causal for m in modules if "is_causal" in vars(m) or hasattr(type(m), "is_causal")]
    if not causal or not all(causal):
        raise PackError(
            f"{type(model).__name__} has attention that is not causal: prefill, generate and score are for decoders, embed for encoders"
        )
    return traits


def check_encoder(model: PreTrainedModel) -> Traits:
    """The traits of a model whose attention may look both ways; raises as ``check_decoder`` does."""
    return _checked(model, list(model.modules()))


def _checked(model: PreTrainedModel, modules: list[nn.Module]) -> Traits:
    name = type(model).__name__
    can_set = getattr(model, "_can_set_attn_implementation", None)
    if can_set is None or not can_set():
        raise PackError(
            f"{name} does not attend through transformers' attention interface, so its attention cannot be packed: run "
            "its prompts one by one"
        )
    config: Any = model.config.get_text_config()
    if model.config.is_encoder_decoder:
        raise PackError(f"{name} has an encoder and a decoder: packed rows are for models of one stack")
    if getattr(config, "alibi", False):
        raise PackError(f"{name} uses ALiBi, which counts positions over the whole row: it cannot be packed")
    layers = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    if others := set(layers) - _ATTENTION:
        raise PackError(
            f"{name} has {', '.join(sorted(others))} layers, which carry state from one prompt to the next: run its "
            "prompts one by one"
        )
    if mixers := sorted({type(m).__name__ for m in modules if isinstance(m, nn.Conv1d)}):
        raise PackError(
            f"{name} has layers of {', '.join(mixers)}, which mix tokens of neighbouring prompts: run its prompts one by one"
        )
    if getattr(config, "num_kv_shared_layers", 0):
        raise PackError(
            f"{name} shares keys between layers, which packed caches cannot: run its prompts one by one"
        )
    if getattr(config, "attention_chunk_size", None):
        raise PackError(
            f"{name} attends in chunks, which packed attention does not know: run its prompts one by one"
        )
    parameters = inspect.signature(model.forward).parameters.values()
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    return Traits(
        layers=len(layers),
        first_position=_first_position(modules),
        longest_together=_longest_together(config),
        takes=None if takes_any else frozenset(p.name for p in parameters),
    )


def _first_position(modules: list[nn.Module]) -> int:
    """RoBERTa and its children count from one past the padding token's id."""
    for module in modules:
        if hasattr(type(module), "create_position_ids_from_input_ids"):
            return int(getattr(module, "padding_idx", 0) or 0) + 1
    return 0


def _longest_together(config: Any) -> int | None:
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(inner for inner in rope.values() if isinstance(inner, dict))]
    growing = [kind for kind in kinds if kind.get("rope_type") in _GROWING]
    limits = [
        kind.get("original_max_position_embeddings") or config.max_position_embeddings for kind in growing
    ]
    return min(limits) if limits else None
