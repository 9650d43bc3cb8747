"""A short training of nothing but the rows: the swapped model is to read its own pieces as the original reads the old ones.

    original   old ids, old rows  ->  body  ->  states     no gradient
    swapped    new ids, new rows  ->  body  ->  states     a gradient for the rows

The body is one and the same, run with either table in turn. At the ends of words (``word_ends.py``) the states of the two are
compared. For encoders the loss is one minus the cosine of the two states of the whole text, and ``ENDS`` times the same of the
states at ends; for decoders the cross-entropy of the next new token, in nats, which is all that a head of its own learns from,
and the squared distance at ends, relative to the squared length of the original's.

Each step moves only the rows of the tokens in its batch (``rows_adam.py``), also where a softmax gives all rows a gradient: Adam
makes the faint push away from every token that does not come next as long as any other, and rows that were right drift off.
The longest step is ``ENCODER_RATE`` or ``DECODER_RATE`` times the root mean square of the old rows, after a warm-up, and falls in a
half cosine. Encoders learn from parts of texts, short and long (``passages.py``), as they read sentences; decoders from whole
texts, opened as a text is by the special token that they know. Those of a length come together, so that little is padded.
There is no dropout. Nothing else of the model changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from tersely.embeddings.transfer.passages import part_of
from tersely.embeddings.transfer.quality import Pooling, generates, opening_id, pooled
from tersely.embeddings.transfer.rows_adam import RowsAdam
from tersely.embeddings.transfer.tables import Tables
from tersely.embeddings.transfer.word_ends import Span, word_ends
from tersely.errors import UsageError

ENCODER_RATE, DECODER_RATE = 0.04, 0.01
"""The longest step, as a share of the root mean square of the old rows."""
BATCH = 64

ENDS = 0.5
"""Weight of the states at the ends of words, for encoders."""

LOGITS = 1 << 28
"""Numbers in the largest array of logits, at most: 1 GB, of which a few are held at a time."""

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
        texts: to learn from, again in another order where they are too few; of each an encoder reads a part.
        steps: how many batches.
        batch: texts in each.
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
        for number, chosen in zip(range(steps), _batches(texts, batch, seed, learner.parts), strict=False):
            losses.append(learner.step(chosen, _share(number, steps)))
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
    """The two ways through the body, and the state of the rows.

    Attributes:
        parts: whether it is to read parts of texts.
    """

    def __init__(self, model: Any, old: Tables, source: Any, used: Any, pooling: Pooling) -> None:
        self._model, self._old, self._source, self._used, self._pooling = model, old, source, used, pooling
        self._decoder = generates(model)
        self.parts = not self._decoder
        self._body = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        inputs = self._body.get_input_embeddings().weight
        self._name = next(name for name, part in self._body.named_parameters() if part is inputs)
        tables = Tables.of(model)
        parts = [tables.inputs, *([tables.head, tables.bias] if self._decoder else [])]
        self._tables = [(part, RowsAdam(part)) for part in parts if part is not None]
        for part, _ in self._tables:
            part.requires_grad_(True)
        self._longest_step = (DECODER_RATE if self._decoder else ENCODER_RATE) * float(
            old.inputs.float().square().mean().sqrt()
        )
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or _LONGEST
        self._longest = max(min(longest - 2, _LONGEST), 1)

    def step(self, texts: list[str], share: float) -> float:
        """One step, a share of the longest; its loss."""
        device = self._tables[0][0].device
        (before, old_spans), (after, new_spans) = (
            self._encode(tokenizer, texts) for tokenizer in (self._source, self._used)
        )
        pairs = [
            word_ends(text, old, new) for text, old, new in zip(texts, old_spans, new_spans, strict=True)
        ]
        old_ids, old_mask = _padded(before, self._source.pad_token_id, device)
        new_ids, new_mask = _padded(after, self._used.pad_token_id, device)
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
        touched = new_ids[new_mask.bool()].unique()
        for part, adam in self._tables:
            if part.grad is not None:
                adam.step(touched, part.grad[touched], share * self._longest_step)
                part.grad = None
        return float(loss.detach())

    def _encode(self, tokenizer: Any, texts: list[str]) -> tuple[list[list[int]], list[list[Span]]]:
        """The ids of each text and the characters that each stands for."""
        found = tokenizer(texts, return_offsets_mapping=True, truncation=True, max_length=self._longest)
        rows, spans = found["input_ids"], found["offset_mapping"]
        first = opening_id(tokenizer) if self._decoder else None
        if first is None:
            return rows, spans
        opened = [row[:1] == [first] for row in rows]
        return (
            [row if has else [first, *row] for row, has in zip(rows, opened, strict=True)],
            [row if has else [(0, 0), *row] for row, has in zip(spans, opened, strict=True)],
        )

    def _next_token(self, found: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean cross-entropy of the next ids, in nats. Logits are made again on the way back, so that few are held."""
        follows = mask[:, 1:].bool()
        states, wanted = found[:, :-1][follows], ids[:, 1:][follows]
        size = max(LOGITS // self._model.get_output_embeddings().weight.shape[0], 1)
        nats: list[Any] = [
            checkpoint(self._nats, *part, use_reentrant=False)
            for part in zip(states.split(size), wanted.split(size), strict=True)
        ]
        return torch.stack(nats).sum() / max(len(wanted), 1)

    def _nats(self, states: Tensor, wanted: Tensor) -> Tensor:
        """What the head needs to tell ``(N,)`` ids from states ``(N, D)``."""
        with torch.autocast(states.device.type, torch.bfloat16, enabled=states.device.type == "cuda"):
            logits = self._model.get_output_embeddings()(states)
        return torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="sum")


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


def _batches(texts: Sequence[str], batch: int, seed: int, parts: bool) -> Iterator[list[str]]:
    """Batches without end of texts, or of parts of texts, each of about one length, in random order."""
    generator = np.random.default_rng(seed)
    size = min(batch, len(texts))
    while True:
        order = generator.permutation(len(texts))
        for start in range(0, len(order), _SORTED * size):
            chosen = order[start : start + _SORTED * size]
            together = [texts[int(place)] for place in chosen]
            if parts:
                together = [part_of(text, generator) for text in together]
            together.sort(key=len)
            cut = [together[at : at + size] for at in range(0, len(together) - size + 1, size)]
            for place in generator.permutation(len(cut)):
                yield cut[place]


def _share(step: int, steps: int) -> float:
    """Of the longest step: a warm-up, then half a cosine to zero."""
    warm = max(round(_WARM_UP * steps), 1)
    done = (step + 1 - warm) / max(steps - warm, 1)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * done))
