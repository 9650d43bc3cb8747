"""merge_encoder: an encoder of transformers on packed documents, with fewer positions from layer to layer.

The layers of BERT are run as they are, their parts called one by one: attention by the packed kernel, then, where asked,
merging by the keys of this attention, then the rest of the layer on what is left. Later attention adds the logarithm of
its size to the scores of each key, so that a merged position counts as many times as it took in (ToMe, section 3).

Legend: ``T`` packed tokens, ``K`` of them after merging, ``N`` documents, ``C`` width, ``H`` heads, ``D`` head dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tersely.compress.merge.similar.match import match_similar
from tersely.errors import UsageError
from tersely.kernels import varlen_attention
from tersely.kernels.segment import positions_of_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class MergedStates:
    """The states of an encoder that has merged.

    Attributes:
        states: ``(K, C)``.
        cu_seqlens: ``(N + 1,)``: boundaries of the documents among them.
        sizes: float32, ``(K,)``: how many tokens each stands for.
        member: int64, ``(T,)``: the state each token went to; ``K`` in slack rows.
    """

    states: Tensor
    cu_seqlens: Tensor
    sizes: Tensor
    member: Tensor

    def unmerged(self) -> Tensor:
        """A state for each token again, ``(T, C)``; zeros in slack rows."""
        return torch.cat([self.states, self.states.new_zeros(1, self.states.shape[1])])[self.member]


def merge_encoder(
    model: PreTrainedModel, input_ids: Tensor, cu_seqlens: Tensor, layers: Mapping[int, float]
) -> MergedStates:
    """Runs a BERT on packed documents and merges in some of its layers; with no layers its usual outputs.

    Args:
        model: a ``BertModel``, or a model that has one, in evaluation mode.
        input_ids: int64, ``(T,)``.
        cu_seqlens: ``(N + 1,)``, int32; ids past the last are slack.
        layers: number of a layer, from 0, to the rate of its positions that are merged away; see ``match_similar``.

    Raises:
        UsageError: the model is no BERT, is training, or has no such layer.
    """
    body = _body(model, layers)
    positions = positions_of_tokens(cu_seqlens, len(input_ids)).clamp(min=0)
    x = body.embeddings(input_ids=input_ids[None], position_ids=positions[None])[0]
    sizes = torch.ones(len(x), device=x.device)
    member = torch.arange(len(x), device=x.device)
    for number, layer in enumerate(body.encoder.layer):
        x, keys = _attended(layer, x, cu_seqlens, sizes)
        if number in layers:
            matching = match_similar(keys.mean(1), cu_seqlens, layers[number])
            x, sizes = matching.merge(x, sizes)
            member = torch.cat([matching.member, matching.member.new_full((1,), len(x))])[member]
            cu_seqlens = matching.cu_seqlens
        x = layer.output(layer.intermediate(x), x)
    return MergedStates(x, cu_seqlens, sizes, member)


def _attended(layer: Any, x: Tensor, cu_seqlens: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The states ``(T, C)`` after the layer's attention, and its keys ``(T, H, D)``."""
    own = layer.attention.self
    q, k, v = (
        part(x).unflatten(1, (own.num_attention_heads, own.attention_head_size))
        for part in (own.query, own.key, own.value)
    )
    seen = varlen_attention(q, k, v, cu_seqlens, gate=sizes.log())
    return layer.attention.output(seen.flatten(1), x), k


def _body(model: PreTrainedModel, layers: Mapping[int, float]) -> Any:
    body: Any = model.base_model
    if getattr(model.config, "model_type", "") != "bert" or getattr(model.config, "is_decoder", False):
        raise UsageError(
            f"{type(model).__name__} is no BERT encoder, whose layers this knows how to run: use one that is"
        )
    if model.training:
        raise UsageError(f"{type(model).__name__} is in training mode, where it drops out: call eval() first")
    if any(not 0 <= number < len(body.encoder.layer) for number in layers):
        raise UsageError(
            f"merging in layers {sorted(layers)}: {type(model).__name__} has layers 0 to {len(body.encoder.layer) - 1}"
        )
    return body
