"""How near a swapped model is to the original, on text that nothing was learned from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor


class Pooling(StrEnum):
    """How the states of a text become one."""

    MEAN = "mean"
    """The mean over all ids."""
    CLS = "cls"
    """The state of the first id."""


@dataclass(frozen=True)
class Quality:
    """Figures on held-out passages.

    Attributes:
        passages: how many were measured.
        bits_per_byte_before: of a decoder; None for others.
        bits_per_byte_after: the same after the swap.
        cosine: of an encoder, the mean cosine between states of a passage before and after; None for decoders.
        neighbours: of an encoder, the share of passages whose nearest other passage is the same before and after.
        spearman: of an encoder, the rank correlation of the similarities of all pairs of passages, before and after.
    """

    passages: int
    bits_per_byte_before: float | None = None
    bits_per_byte_after: float | None = None
    cosine: float | None = None
    neighbours: float | None = None
    spearman: float | None = None

    @property
    def no_better_than_guesses(self) -> bool:
        """Whether a decoder needs the eight bits for a byte that need no model, and did not before."""
        before, after = self.bits_per_byte_before, self.bits_per_byte_after
        return before is not None and after is not None and before < 8 <= after


def generates(model: Any) -> bool:
    """Whether the model is a decoder with a head."""
    return bool(model.can_generate()) and not model.config.is_encoder_decoder


def rows_of(tokenizer: Any, passages: list[str], opened: bool) -> list[list[int]]:
    """The ids of each passage, with the special tokens of the tokenizer; ``opened`` asks for one in front in any case."""
    rows = [list(tokenizer(text)["input_ids"]) for text in passages]
    first = opening_id(tokenizer)
    if opened and first is not None:
        return [row if row[:1] == [first] else [first, *row] for row in rows]
    return rows


def opening_id(tokenizer: Any) -> int | None:
    """The special token that stands before a text: bos, or else the end of the text before."""
    return tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id


@torch.inference_mode()
def bits(model: Any, rows: list[list[int]]) -> float:
    """Bits that a decoder needs for all but the first id of each row."""
    found = 0.0
    for row in rows:
        ids = torch.tensor([row], device=model.device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].float()
        found += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")) / math.log(2)
    return found


def pooled(last: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One state for each text, float32 ``(N, D)``, from last hidden states ``(N, T, D)`` and their mask ``(N, T)``."""
    if pooling is Pooling.CLS:
        return last[:, 0].float()
    weights = mask[..., None].float()
    return (last.float() * weights).sum(1) / weights.sum(1)


@torch.inference_mode()
def states(model: Any, rows: list[list[int]], pooling: Pooling = Pooling.MEAN) -> Tensor:
    """The last hidden states of each row as one, float32 ``(N, D)``, of length one."""
    body = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    found = list[Tensor]()
    for row in rows:
        ids = torch.tensor([row], device=model.device)
        mask = torch.ones_like(ids)
        last = body(input_ids=ids, attention_mask=mask).last_hidden_state
        found.append(pooled(last, mask, pooling))
    return torch.nn.functional.normalize(torch.cat(found), dim=-1)


def compare_states(before: Tensor, after: Tensor) -> Quality:
    """The figures of an encoder from states of the same passages, ``(N, D)`` each."""
    alike = [part @ part.T for part in (before, after)]
    pairs = np.triu_indices(len(before), 1)
    ranked = [part.cpu().numpy()[pairs] for part in alike]
    correlation = float(spearmanr(*ranked)[0]) if len(before) > 2 else None  # pyright: ignore[reportArgumentType]
    nearest = [part.fill_diagonal_(-math.inf).argmax(1) for part in alike]
    same = float((nearest[0] == nearest[1]).float().mean()) if len(before) > 1 else None
    return Quality(len(before), None, None, float((before * after).sum(1).mean()), same, correlation)


class Comparison:
    """Measures a model, on the same passages, before and after its rows are exchanged.

    Args:
        model: of transformers, an encoder or a decoder.
        texts: passages; those that are too long for its positions under one of the tokenizers are left out.
        tokenizers: those before and after.
        pooling: how an encoder's states become one.
    """

    def __init__(
        self, model: Any, texts: list[str], *tokenizers: Any, pooling: Pooling = Pooling.MEAN
    ) -> None:
        self._model, self._texts = model, _that_fit(model, texts, tokenizers)
        self._pooling = pooling
        self._decoder = generates(model)
        self._before: Any = None

    def before(self, tokenizer: Any) -> None:
        """Remembers what the original gives."""
        self._before = self._run(tokenizer) if self._texts else None

    def after(self, tokenizer: Any) -> Quality | None:
        """Compares with it."""
        if not self._texts:
            return None
        now = self._run(tokenizer)
        if not self._decoder:
            return compare_states(self._before, now)
        size = sum(len(text.encode()) for text in self._texts)
        return Quality(len(self._texts), self._before / size, now / size)

    def _run(self, tokenizer: Any) -> Any:
        """Bits of all passages, or a state for each; the model's mode is left as it was."""
        training = self._model.training
        self._model.eval()
        rows = rows_of(tokenizer, self._texts, self._decoder)
        result = bits(self._model, rows) if self._decoder else states(self._model, rows, self._pooling)
        self._model.train(training)
        return result


def _that_fit(model: Any, texts: list[str], tokenizers: tuple[Any, ...]) -> list[str]:
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    return [text for text in texts if all(len(part(text)["input_ids"]) < longest - 2 for part in tokenizers)]
