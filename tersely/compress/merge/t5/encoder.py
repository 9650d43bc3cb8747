"""MergingEncoder: T5's encoder on packed values, with fewer of them after the gate.

    all positions      block 0 .. g-1      policy      soft: all stay, G is added to their scores as keys
                                                       hard: those that stay move together     block g .. n-1

A position that stays has its old distances to the others, and takes its ``G`` along, so hard deletion differs from the
soft one in training by the keys below the threshold alone.

Legend: ``T`` packed positions, ``K`` those that stay, ``N`` documents, ``C`` width, ``B`` rows of length ``L`` of a padded batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.t5.modeling_t5 import T5Stack

from tersely.compress.merge.policies import Choice, DeleteGate, exact_rate
from tersely.compress.merge.t5.config import MergingByT5Config, is_exact, policy_of
from tersely.compress.merge.t5.layers import View, bias_of, norm, run_block
from tersely.kernels import Boundaries, compact, pad, segment_expand, segment_reduce, unpad
from tersely.kernels.segment import segments_of_tokens


@dataclass(frozen=True, eq=False)
class Encoded:
    """Packed documents after the encoder.

    Attributes:
        hidden: ``(K, C)``.
        cu_seqlens: ``(N + 1,)``: documents among them.
        gate: ``(K,)``, or None: what is added to their scores as keys.
        choice: what was decided for the ``T`` positions that were read, or None without a policy.
    """

    hidden: Tensor
    cu_seqlens: Tensor
    gate: Tensor | None = None
    choice: Choice | None = None


@dataclass
class EncoderOutput(BaseModelOutput):
    """A padded batch after the encoder, ``last_hidden_state`` ``(B, longest that stayed, C)``.

    Attributes:
        key_bias: the same without ``C``: what a decoder adds to the scores of each key; the lowest number for padding.
    """

    key_bias: Tensor | None = None


class MergingEncoder(T5Stack):
    """``T5Stack`` as encoder, with a policy after ``config.gate_layer`` blocks; its weights have T5's names."""

    def __init__(self, config: MergingByT5Config) -> None:
        super().__init__(config)
        self.policy = policy_of(config)

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, hard: bool | None = None, **_: Any
    ) -> EncoderOutput:
        """A padded batch ``(B, L)``, as ``generate`` gives it, to a padded batch of what stays."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        ids, cu_seqlens, places = unpad(input_ids, mask)
        encoded = self.encode(ids, cu_seqlens, places, not self.training if hard is None else hard)
        longest = max(int(encoded.cu_seqlens.diff().max()), 1) if len(mask) else 1
        hidden = pad(encoded.hidden, len(mask), longest, cu_seqlens=encoded.cu_seqlens)
        there = torch.arange(longest, device=hidden.device) < encoded.cu_seqlens.diff()[:, None]
        key_bias = hidden.new_zeros(there.shape)
        if encoded.gate is not None:
            gate = pad(encoded.gate, len(mask), longest, cu_seqlens=encoded.cu_seqlens)
            key_bias = gate.to(hidden.dtype)
        key_bias = key_bias.masked_fill(~there, torch.finfo(hidden.dtype).min)
        return EncoderOutput(last_hidden_state=hidden, key_bias=key_bias)

    def encode(self, input_ids: Tensor, cu_seqlens: Tensor, positions: Tensor, hard: bool) -> Encoded:
        """Packed documents.

        Args:
            input_ids: ``(T,)``, int64.
            cu_seqlens: ``(N + 1,)``, int32; rows past the last document are slack.
            positions: ``(T,)``, int64; their differences within a document count.
            hard: delete, instead of adding ``G``. Policies without a gate always delete.
        """
        config: Any = self.config
        x = self.dropout(self.embed_tokens(input_ids))
        bounds = Boundaries.from_cu_seqlens(cu_seqlens, len(x))
        view = View(bounds, bias_of(self), (positions, positions), plus_one=config.softmax_plus_one)
        choice = None
        for number, block in enumerate([*self.block, None]):
            if number == config.gate_layer and self.policy is not None:
                choice = self._choose(x, cu_seqlens, input_ids)
                gate = choice.gate
                if hard or gate is None:
                    x, cu_seqlens, source = compact(x, choice.keep, cu_seqlens)
                    positions = positions[source]
                    bounds = Boundaries.from_cu_seqlens(cu_seqlens, len(x))
                    gate = None if gate is None else gate[source]
                view = replace(view, bounds=bounds, positions=(positions, positions), gate=gate)
            if block is not None:
                x = run_block(block, x, view)
        x = self.dropout(norm(self.final_layer_norm, x))
        return Encoded(x, cu_seqlens, view.gate, choice)

    def _choose(self, x: Tensor, cu_seqlens: Tensor, input_ids: Tensor) -> Choice:
        """What the policy says, at its exact rate if it has one; no document loses everything."""
        config: Any = self.config
        assert self.policy is not None
        choice: Choice = self.policy(x, cu_seqlens, input_ids)
        if is_exact(config):
            return exact_rate(choice, cu_seqlens, config.share)
        return _sparing(choice, cu_seqlens)

    @classmethod
    def is_custom_code(cls) -> bool:
        """No: of custom code transformers skips the parts without weights of their own, which here give the others theirs."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, DeleteGate):
            module.reset_parameters()


def _sparing(choice: Choice, cu_seqlens: Tensor) -> Choice:
    """The same, but of a document that would lose all positions the first with the highest score stays."""
    score, tokens = choice.score.detach(), len(choice.score)
    lost = segment_reduce(choice.keep.to(score.dtype), cu_seqlens, "sum") == 0
    best = segment_expand(segment_reduce(score, cu_seqlens, "max"), cu_seqlens, tokens)
    spared = (score == best) & (segment_expand(lost.to(score.dtype), cu_seqlens, tokens) > 0)
    before = torch.cat([spared.new_zeros(1, dtype=torch.int64), spared.cumsum(0)])
    at_start = before[cu_seqlens.long()][segments_of_tokens(cu_seqlens, tokens)]
    return replace(choice, keep=choice.keep | (spared & (before[:-1] == at_start)))
