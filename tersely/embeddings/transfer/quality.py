"""How near a swapped model is to the original, on text that nothing was learned from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Quality:
    """Figures on held-out passages.

    Attributes:
        passages: how many were measured.
        bits_per_byte_before: of a decoder; None for others.
        bits_per_byte_after: the same after the swap.
        cosine: of an encoder, the mean cosine between states of a passage before and after; None for decoders.
        neighbours: of an encoder, the share of passages whose nearest other passage is the same before and after.
    """

    passages: int
    bits_per_byte_before: float | None = None
    bits_per_byte_after: float | None = None
    cosine: float | None = None
    neighbours: float | None = None


def generates(model: Any) -> bool:
    """Whether the model is a decoder with a head."""
    return bool(model.can_generate()) and not model.config.is_encoder_decoder


def rows_of(tokenizer: Any, passages: list[str], opened: bool) -> list[list[int]]:
    """The ids of each passage, with the special tokens of the tokenizer; ``opened`` asks for one in front in any case."""
    rows = [list(tokenizer(text)["input_ids"]) for text in passages]
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if opened and first is not None:
        return [row if row[:1] == [first] else [first, *row] for row in rows]
    return rows


@torch.inference_mode()
def bits(model: Any, rows: list[list[int]]) -> float:
    """Bits that a decoder needs for all but the first id of each row."""
    found = 0.0
    for row in rows:
        ids = torch.tensor([row], device=model.device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].float()
        found += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")) / math.log(2)
    return found


@torch.inference_mode()
def states(model: Any, rows: list[list[int]]) -> Tensor:
    """The mean of the last hidden states of each row, float32 ``(N, D)``, of length one."""
    body = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    found = list[Tensor]()
    for row in rows:
        ids = torch.tensor([row], device=model.device)
        last = body(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        found.append(last[0].float().mean(0))
    return torch.nn.functional.normalize(torch.stack(found), dim=-1)


def compare_states(before: Tensor, after: Tensor) -> Quality:
    """The figures of an encoder from states of the same passages, ``(N, D)`` each."""
    nearest = [(part @ part.T).fill_diagonal_(-math.inf).argmax(1) for part in (before, after)]
    same = float((nearest[0] == nearest[1]).float().mean()) if len(before) > 1 else None
    return Quality(len(before), cosine=float((before * after).sum(1).mean()), neighbours=same)
