"""MergingByT5: any T5 or ByT5 with fewer positions in its encoder, packed.

    packed     input_ids (T,), cu_seqlens; labels or decoder_input_ids (U,), decoder_cu_seqlens
    padded     input_ids (B, L), attention_mask; labels or decoder_input_ids (B, M): unpadded once, logits padded again
    cached     generate: the encoder packed as ever, the decoder transformers' own with its cache, over what stayed

Legend: ``T``, ``U`` packed positions of sources and targets, ``N`` documents, ``V`` the vocabulary.
"""

from __future__ import annotations

import copy
import functools
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration
from transformers.modeling_outputs import Seq2SeqLMOutput

from tersely.compress.merge.rate.mean import mean_of
from tersely.compress.merge.t5 import plus_one
from tersely.compress.merge.t5.config import MergingByT5Config
from tersely.compress.merge.t5.decoder import decode, shifted
from tersely.compress.merge.t5.encoder import Encoded, EncoderOutput, MergingEncoder
from tersely.errors import UsageError
from tersely.kernels import pad, unpad
from tersely.kernels.loss import cross_entropy
from tersely.kernels.segment import slack_rows


@dataclass
class MergingOutput(Seq2SeqLMOutput):
    """What ``MergingByT5`` gives beside loss and logits; of the packed positions that the encoder read.

    Attributes:
        keep: bool, ``(T,)``: which stay where deletion is hard.
        gate: ``(T,)``, or None where the policy has none.
        deleted: a scalar: the share that does not stay; for ``PIController.step``.
        gate_mean: a scalar, differentiable: the regulariser that its weight belongs to.
    """

    keep: Tensor | None = None
    gate: Tensor | None = None
    deleted: Tensor | None = None
    gate_mean: Tensor | None = None


class MergingByT5(T5ForConditionalGeneration):
    """T5 with a ``MergingEncoder``.

    ``from_pretrained`` takes the folder of any T5 or ByT5 of transformers, and names the weights of the gate as new, or a
    folder of its own. Dropout is T5's, but for attention weights, which have none. In training deletion is soft
    (``hard=True`` for the other), otherwise hard.
    """

    config_class = MergingByT5Config
    supports_gradient_checkpointing = False
    accepts_loss_kwargs = (
        False  # the loss is a mean, so transformers' Trainer divides it by the steps it accumulates
    )

    def __init__(self, config: MergingByT5Config) -> None:
        super().__init__(config)
        encoder_config = copy.deepcopy(config)
        encoder_config.is_decoder = encoder_config.use_cache = False
        self.encoder = MergingEncoder(encoder_config)
        self._see_one_more()
        self.post_init()

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: EncoderOutput | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cu_seqlens: Tensor | None = None,
        decoder_cu_seqlens: Tensor | None = None,
        hard: bool | None = None,
        **kwargs: Any,
    ) -> MergingOutput | Seq2SeqLMOutput:
        """Logits, and the mean cross-entropy where there are labels.

        Args:
            input_ids: ``(T,)`` with ``cu_seqlens``, or ``(B, L)``.
            attention_mask: ``(B, L)``, 0 for padding.
            decoder_input_ids: ``(U,)`` or ``(B, M)``; by default the labels, one to the right.
            decoder_attention_mask: ``(B, M)``.
            encoder_outputs: what ``encoder`` gave for a padded batch.
            past_key_values: transformers' cache of the decoder.
            labels: of the shape of ``decoder_input_ids``; -100 for none, and none count in rows past the last target.
            use_cache: give a cache of the decoder; not by default.
            cu_seqlens: ``(N + 1,)``, int32: packed sources.
            decoder_cu_seqlens: ``(N + 1,)``, int32: their targets.
            hard: delete, instead of adding ``G`` to scores.
            kwargs: for transformers' decoder, where it is the one that runs.

        Returns:
            Logits ``(U, V)`` or ``(B, M, V)``, 0 at padding of a ``decoder_attention_mask``.

        Raises:
            UsageError: sources are packed and targets are not, one of them is missing, or the configuration does not say
                what targets begin with.
        """
        hard = not self.training if hard is None else hard
        if encoder_outputs is not None or past_key_values is not None or use_cache:
            outputs = (
                self.encoder(input_ids, attention_mask, hard) if encoder_outputs is None else encoder_outputs
            )
            seen = getattr(outputs, "key_bias", None)
            cached: dict[str, Any] = dict(
                attention_mask=attention_mask if seen is None else seen[:, None, None],
                decoder_input_ids=decoder_input_ids, decoder_attention_mask=decoder_attention_mask,
                encoder_outputs=outputs, past_key_values=past_key_values, labels=labels, use_cache=use_cache,
            )  # fmt: skip
            return super().forward(**cached, **kwargs)
        if self.training and self.config.dropout_rate:
            _say_once(
                "packed attention has no dropout of its weights: dropout_rate holds for T5's other places"
            )
        if input_ids is None or (cu_seqlens is None) != (decoder_cu_seqlens is None):
            raise UsageError(
                "give input_ids, and with cu_seqlens of packed sources decoder_cu_seqlens of packed targets"
            )
        said = self._said(decoder_input_ids, labels, decoder_cu_seqlens)
        if cu_seqlens is None or decoder_cu_seqlens is None:
            ids, cu_seqlens, places = unpad(input_ids, _mask(attention_mask, input_ids))
            encoded = self.encoder.encode(ids, cu_seqlens, places, hard)
            targets = unpad(said, _mask(decoder_attention_mask, said))
            logits = pad(self._logits(*targets, encoded), *said.shape, indices=targets.indices)
        else:
            encoded = self.encoder.encode(input_ids, cu_seqlens, _counted(input_ids), hard)
            logits = self._logits(said, decoder_cu_seqlens, _counted(said), encoded)
            if labels is not None:
                labels = labels.masked_fill(slack_rows(decoder_cu_seqlens, len(labels)), -100)
        loss = None if labels is None else cross_entropy(logits.flatten(0, -2), labels.flatten())
        return _output(loss, logits, cu_seqlens, encoded)

    @classmethod
    def is_custom_code(cls) -> bool:
        """As ``MergingEncoder`` has it."""
        return False

    def set_attn_implementation(
        self, attn_implementation: str | dict[str, str], *args: Any, **kwargs: Any
    ) -> None:
        """As transformers has it; with ``softmax_plus_one`` the decoder keeps its own."""
        super().set_attn_implementation(attn_implementation, *args, **kwargs)
        self._see_one_more()

    def _see_one_more(self) -> None:
        if self.config.softmax_plus_one:
            self.decoder.config._attn_implementation = plus_one.register()  # pyright: ignore[reportPrivateUsage]

    def _said(
        self, decoder_input_ids: Tensor | None, labels: Tensor | None, cu_seqlens: Tensor | None
    ) -> Tensor:
        """What the decoder reads, padded or packed."""
        if decoder_input_ids is not None:
            return decoder_input_ids
        if labels is None:
            raise UsageError("there is nothing to say: give labels or decoder_input_ids")
        config: Any = self.config
        if (start := getattr(config, "decoder_start_token_id", None)) is None:
            raise UsageError(
                "labels follow decoder_start_token_id, which the configuration lacks: set it, in T5 to pad_token_id"
            )
        if cu_seqlens is None:
            return self._shift_right(labels)
        return shifted(labels, cu_seqlens, start, config.pad_token_id)

    def _logits(self, input_ids: Tensor, cu_seqlens: Tensor, positions: Tensor, encoded: Encoded) -> Tensor:
        """Logits of packed targets, ``(U, V)``."""
        states = decode(self.decoder, input_ids, cu_seqlens, positions, encoded, self.config.softmax_plus_one)
        if self.config.scale_decoder_outputs:
            states = states * self.model_dim**-0.5
        return self.lm_head(states)


def _output(loss: Tensor | None, logits: Tensor, cu_seqlens: Tensor, encoded: Encoded) -> MergingOutput:
    """With the shares that a rate is held by."""
    if encoded.choice is None:
        return MergingOutput(loss=loss, logits=logits)
    keep, gate = encoded.choice.keep, encoded.choice.gate
    deleted = 1 - mean_of(keep, cu_seqlens)
    mean = None if gate is None else mean_of(gate, cu_seqlens)
    return MergingOutput(loss=loss, logits=logits, keep=keep, gate=gate, deleted=deleted, gate_mean=mean)


def _mask(given: Tensor | None, ids: Tensor) -> Tensor:
    return torch.ones_like(ids) if given is None else given


def _counted(values: Tensor) -> Tensor:
    return torch.arange(len(values), device=values.device)


@functools.cache
def _say_once(what: str) -> None:
    warnings.warn(what, stacklevel=3)
