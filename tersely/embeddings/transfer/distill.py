"""A short training of nothing but the rows: the swapped model is to read its own pieces as the original reads the old ones.

    original   old ids, old rows  ->  body  ->  states     no gradient
    swapped    new ids, new rows  ->  body  ->  states     a gradient for the rows

The body is one and the same, run with either table in turn. At the ends of words (``word_ends.py``) the states of the two are
compared. For encoders the loss is one minus the cosine of the two states of the whole text, and ``ENDS`` times the same of the
states at ends; for decoders the cross-entropy of the next new token, in nats, which is all that a head of its own learns from,
and the squared distance at ends, relative to the squared length of the original's.

Each step moves only the rows that its batch touches (``rows_adam.py``); with a head in the loss these are all. The longest step
is ``RATE`` times the root mean square of the old rows, after a warm-up, and falls in a half cosine. What is learned from are
parts of texts, short and long (``passages.py``); those of a length come together, so that little is padded. There is no
dropout. Nothing else of the model changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from tersely.embeddings.transfer.passages import part_of
from tersely.embeddings.transfer.quality import Pooling, generates, pooled
from tersely.embeddings.transfer.rows_adam import RowsAdam
from tersely.embeddings.transfer.tables import Tables
from tersely.embeddings.transfer.word_ends import word_ends
from tersely.errors import UsageError

RATE = 0.04
"""The longest step, as a share of the root mean square of the old rows."""
BATCH = 64

ENDS = 0.5
"""Weight of the states at the ends of words, for encoders."""

_LEAST = 1e-9
_WARM_UP = 0.05
"""Share of the steps in which the step grows to its full length."""
_LONGEST = 512
"""Ids of a text that are learned from, at most."""
_SORTED = 32
"""Batches that are sorted by length together."""

Losses = Callable[[int, float], None]
"""Is told how many steps are done, and the loss of the last."""


def distill_rows(
    model: Any,
    old: Tables,
    source_tokenizer: Any,
    used: Any,
    texts: Sequence[str],
    steps: int,
    *,
    batch: int = BATCH,
    seed: int = 0,
    pooling: Pooling = Pooling.MEAN,
    on_step: Losses | None = None,
) -> list[float]:
    """Trains the rows of a swapped model, on the device where it is; in bfloat16 on a GPU, but for the rows themselves.

    Args:
        model: with the rows of ``used``; its rows are changed.
        old: the tables that it had, which may be ``Tables.kept()``.
        source_tokenizer: the tokenizer of these.
        used: the tokenizer of the rows.
        texts: to learn from; a part of each is taken, again in another order where they are too few.
        steps: how many batches.
        batch: parts of texts in each.
        seed: of the order and the parts.
        pooling: how an encoder's states become one.
        on_step: is told the loss of each step.

    Returns:
        The loss of each step.

    Raises:
        UsageError: no texts, or no step or batch to speak of.
    """
    if not texts or steps < 1 or batch < 1:
        raise UsageError(
            f"{steps} steps with {batch} of {len(texts)} texts train nothing: give texts, and at least one of each"
        )
    training = model.training
    needed = [(part, part.requires_grad) for part in model.parameters()]
    inputs = model.get_input_embeddings()
    padding, inputs.padding_idx = inputs.padding_idx, None  # which need not be among the old rows
    learner = _Learner(model.eval().requires_grad_(False), old, source_tokenizer, used, pooling)
    losses = list[float]()
    try:
        for number, chosen in zip(range(steps), _batches(texts, batch, seed), strict=False):
            losses.append(learner.step(chosen, _rate(number, steps)))
            if on_step:
                on_step(number + 1, losses[-1])
    finally:
        inputs.padding_idx = padding
        for part, wanted in needed:
            part.grad = None
            part.requires_grad_(wanted)
        model.train(training)
    return losses


class _Learner:
    """The two ways through the body, and the state of the rows."""

    def __init__(self, model: Any, old: Tables, source: Any, used: Any, pooling: Pooling) -> None:
        self._model, self._old, self._source, self._used, self._pooling = model, old, source, used, pooling
        self._decoder = generates(model)
        self._body = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        inputs = self._body.get_input_embeddings().weight
        self._name = next(name for name, part in self._body.named_parameters() if part is inputs)
        tables = Tables.of(model)
        parts = [tables.inputs, *([tables.head, tables.bias] if self._decoder else [])]
        self._tables = [(part, RowsAdam(part)) for part in parts if part is not None]
        self._whole = self._decoder and tables.head is None
        for part, _ in self._tables:
            part.requires_grad_(True)
        self._scale = float(old.inputs.float().square().mean().sqrt())
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or _LONGEST
        self._longest = max(min(longest - 2, _LONGEST), 1)

    def step(self, texts: list[str], rate: float) -> float:
        """One step; its loss."""
        device = self._tables[0][0].device
        before, after = (self._encode(tokenizer, texts) for tokenizer in (self._source, self._used))
        pairs = [
            word_ends(text, old, new)
            for text, old, new in zip(texts, before["offset_mapping"], after["offset_mapping"], strict=True)
        ]
        old_ids, old_mask = _padded(before["input_ids"], self._source.pad_token_id, device)
        new_ids, new_mask = _padded(after["input_ids"], self._used.pad_token_id, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            with torch.no_grad():
                call = {"input_ids": old_ids, "attention_mask": old_mask}
                wanted = functional_call(self._body, {self._name: self._old.inputs}, kwargs=call)
            found = self._body(input_ids=new_ids, attention_mask=new_mask)
        wanted, found = wanted.last_hidden_state, found.last_hidden_state
        right, left = _at_ends(wanted, found, pairs)
        if self._decoder:
            loss = self._next_token(found, new_ids, new_mask)
            loss = loss + (left - right).square().sum() / right.square().sum().clamp_min(_LEAST)
        else:
            states = [
                pooled(part, mask, self._pooling) for part, mask in ((wanted, old_mask), (found, new_mask))
            ]
            loss = _apart(*states) + ENDS * _apart(right, left)
        loss.backward()
        self._move(new_ids[new_mask.bool()].unique(), rate * self._scale)
        return float(loss.detach())

    def _move(self, touched: Tensor, rate: float) -> None:
        """Moves the rows of the batch in the inputs, all rows of what stands in the softmax."""
        for number, (part, adam) in enumerate(self._tables):
            if part.grad is None:
                continue
            every = number > 0 or self._whole
            rows = torch.arange(len(part), device=part.device) if every else touched
            adam.step(rows, part.grad[rows], rate)
            part.grad = None

    def _encode(self, tokenizer: Any, texts: list[str]) -> Any:
        return tokenizer(texts, return_offsets_mapping=True, truncation=True, max_length=self._longest)

    def _next_token(self, found: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean cross-entropy of the next ids, in nats."""
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.device.type == "cuda"):
            logits = self._model.get_output_embeddings()(found[:, :-1])
        wanted = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten())


def _at_ends(wanted: Tensor, found: Tensor, pairs: list[list[tuple[int, int]]]) -> tuple[Tensor, Tensor]:
    """The states at the ends of words, float32 ``(E, D)``: the original's, and those that are found."""
    places = [(row, *pair) for row, ends in enumerate(pairs) for pair in ends]
    row, old, new = torch.tensor(places, dtype=torch.int64, device=found.device).reshape(-1, 3).T
    return wanted[row, old].float(), found[row, new].float()


def _apart(right: Tensor, left: Tensor) -> Tensor:
    """One minus the cosine, on average; 0 of nothing."""
    return (1 - torch.cosine_similarity(right, left, dim=-1)).sum() / max(len(right), 1)


def _padded(rows: list[list[int]], padding: int | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, ``(N, T)`` each, padded behind."""
    length = max(max(map(len, rows)), 1)
    filled = [row + [padding or 0] * (length - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (length - len(row)) for row in rows]
    return torch.tensor(filled, device=device), torch.tensor(mask, device=device)


def _batches(texts: Sequence[str], batch: int, seed: int) -> Iterator[list[str]]:
    """Batches without end of parts of texts, each of parts of about one length, in random order."""
    generator = np.random.default_rng(seed)
    size = min(batch, len(texts))
    while True:
        order = generator.permutation(len(texts))
        for start in range(0, len(order), _SORTED * size):
            chosen = order[start : start + _SORTED * size]
            parts = [part_of(texts[int(place)], generator) for place in chosen]
            parts.sort(key=len)
            cut = [parts[at : at + size] for at in range(0, len(parts) - size + 1, size)]
            for place in generator.permutation(len(cut)):
                yield cut[place]


def _rate(step: int, steps: int) -> float:
    """The length of a step: a warm-up, then half a cosine to zero."""
    warm = max(round(_WARM_UP * steps), 1)
    done = (step + 1 - warm) / max(steps - warm, 1)
    return RATE * ((step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * done)))
