"""MergingLM: a language model over bytes whose middle layers see groups of them.

    config = MergingLMConfig(policy="router", expand="smooth", share=0.2)
    out = MergingLM(config)(input_ids, cu_seqlens, labels=input_ids)
    (out.loss + out.rate_loss).backward()

Documents are bytes between two ids 256, ``[256, *b"text", 256]``, one after another and never padded.

Legend: ``T`` packed ids, ``N`` documents, ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from tersely.compress.merge.lm.body import MergingBody
from tersely.compress.merge.lm.config import MergingLMConfig
from tersely.compress.merge.policies import RouterPolicy
from tersely.compress.merge.policies.named import Policy
from tersely.compress.merge.rate.mean import mean_of
from tersely.compress.merge.reduce import GroupReduce
from tersely.kernels import Boundaries
from tersely.kernels.loss import cross_entropy
from tersely.kernels.segment import positions_of_tokens
from tersely.layers import Stack
from tersely.ragged import Ragged

_NO_LABEL = -100


@dataclass
class MergingLMOutput(ModelOutput):
    """What a forward gives.

    Attributes:
        loss: the mean cross-entropy of the labels in nats; None without labels.
        logits: ``(T, V)``.
        rate_loss: what pulls a learned policy to its share; 0 for others. Training adds it to ``loss``.
        kept: a scalar: the share of positions that began a group.
        keep: bool, ``(T,)``: those that did.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    rate_loss: Tensor | None = None
    kept: Tensor | None = None
    keep: Tensor | None = None


class MergingLM(PreTrainedModel):
    """See the module. Saved and loaded as models of transformers are, with what the policy has learned."""

    config_class = MergingLMConfig
    main_input_name = "input_ids"

    def __init__(self, config: MergingLMConfig) -> None:
        super().__init__(config)
        plain = config.policy == Policy.ALL
        width = config.main_width if plain else config.width
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.body = Stack(width, config.main_layers, config.main_heads) if plain else MergingBody(config)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def is_custom_code(cls) -> bool:
        """No: of custom code transformers skips the parts without weights of their own, which here draw the others theirs."""
        return False

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Stack | MergingBody | GroupReduce | RouterPolicy):
            module.reset_parameters()
        elif module is self.embedding:
            nn.init.normal_(self.embedding.weight, std=0.02)
        elif module is self.head:
            nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, input_ids: Tensor, cu_seqlens: Tensor, labels: Tensor | None = None) -> MergingLMOutput:
        """Logits of the id after each.

        Args:
            input_ids: int64, ``(T,)``: the documents, one after another.
            cu_seqlens: ``(N + 1,)``, int32: where they begin; ids past the last are slack and change nothing.
            labels: int64, ``(T,)``: the ids again, or -100 for those that are not to be learned. Each is predicted
                from the ids before it, so the first of a document is not.
        """
        positions = positions_of_tokens(cu_seqlens, len(input_ids))
        x = self.embedding(input_ids)
        if isinstance(self.body, Stack):
            bounds = Boundaries.from_cu_seqlens(cu_seqlens, len(input_ids), causal=True)
            states, keep = self.body(x, bounds, positions), positions >= 0
            rate_loss = states.new_zeros(())
        else:
            merged = self.body(x, cu_seqlens, input_ids)
            states, keep, rate_loss = merged.states, merged.groups.keep, merged.rate_loss
        logits = self.head(states)
        loss = None if labels is None else cross_entropy(logits, _targets(labels, positions))
        return MergingLMOutput(loss, logits, rate_loss, mean_of(keep, cu_seqlens), keep)

    def generate(
        self,
        input_ids: Tensor,
        cu_seqlens: Tensor,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Ragged:
        """Goes on after prompts, over caches of all three stacks; groups begin where they would in a forward.

        Args:
            input_ids: int64, ``(T,)``: the prompts, each of at least one id: ``[256, *b"text"]``.
            cu_seqlens: ``(N + 1,)``, int32: where they begin.
            max_new_tokens: at most, for each.
            temperature: 0 for the most probable id, else what logits are divided by before one is drawn.
            seed: what is drawn comes from.

        Returns:
            The new ids of each prompt, int64, on the CPU; 256 is the last where it ended.

        Raises:
            UsageError: a prompt is empty, there are ids after the last, or the temperature is negative.
        """
        from tersely.compress.merge.lm.generate import generate

        return generate(self, input_ids, cu_seqlens, max_new_tokens, temperature, seed)


def _targets(labels: Tensor, position_ids: Tensor) -> Tensor:
    """For each position the label of the next one in its document, ``(T,)``."""
    labels = labels.masked_fill(position_ids <= 0, _NO_LABEL)
    return torch.cat([labels[1:], labels.new_full((min(1, len(labels)),), _NO_LABEL)])
