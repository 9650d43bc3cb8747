"""Generation for many prompts: one packed prefill, then all of them decode together until each has stopped.

Greedy output is, token for token, what ``model.generate`` gives for each prompt alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tersely.errors import PackError, UsageError
from tersely.pack.inference.attention import packed_attention
from tersely.pack.inference.decode import DecodingCaches
from tersely.pack.inference.forward import RowCache, run_row
from tersely.pack.inference.prefill import rows_of
from tersely.pack.inference.prompts import Ids, decode, prompt_ids
from tersely.pack.inference.sampling import Sampler, Sampling
from tersely.pack.inference.support import Traits, check_decoder
from tersely.tokenize.protocol import DecodesOn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NOT_APPLIED = {
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "sequence_bias": None,
    "min_new_tokens": 0,
    "min_length": 0,
    "num_beams": 1,
    "guidance_scale": 1.0,
    "watermarking_config": None,
}
"""What a model's generation_config may ask for and is not done here, with the values that ask for nothing."""


@dataclass(frozen=True)
class Completion:
    """What one prompt gave.

    Attributes:
        index: the prompt's number.
        ids: the new tokens, with the one that ended it.
        text: the same as text, without special tokens, up to the string it stopped at; None without a tokenizer.
        reason: "eos", "stop" (a string of ``stop``) or "length".
    """

    index: int
    ids: list[int]
    text: str | None
    reason: str


def generate(
    model: PreTrainedModel, tokenizer: Any, prompts: Any, **settings: Any
) -> list[str] | list[list[int]]:
    """What the model writes after each prompt, in the order of the prompts: the new tokens only.

    Args:
        model: as for ``prefill``.
        tokenizer: of transformers or of tersely; None where prompts are ids, and so is the result.
        prompts: strings, or whatever ``prefill`` takes.
        settings: as for ``generate_stream``.
    """
    done = sorted(
        generate_stream(model, tokenizer, prompts, **settings), key=lambda completion: completion.index
    )
    if tokenizer is None:
        return [completion.ids for completion in done]
    return [completion.text or "" for completion in done]


def generate_stream(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: Any,
    *,
    max_new_tokens: int | Sequence[int] = 64,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] | Sequence[Sequence[str]] = (),
    eos_token_id: int | Sequence[int] | None = None,
    attention_mask: Any = None,
    token_budget: int | None = None,
) -> Iterator[Completion]:
    """The same, each prompt's completion as soon as it is finished.

    Args:
        model: as for ``prefill``.
        tokenizer: of transformers or of tersely; None where prompts are ids.
        prompts: strings, or whatever ``prefill`` takes.
        max_new_tokens: for all, or for each prompt.
        temperature: 0 for the most probable token in each step, else what logits are divided by before drawing.
        top_k: draw from that many most probable tokens only; 0 for all.
        top_p: draw from the fewest tokens whose probabilities sum to it.
        seed: what is drawn comes from; a prompt draws the same whatever stands beside it.
        stop: strings that end a completion and are not part of its text; for all, or a list for each prompt.
        eos_token_id: tokens that end a completion, by default those of the model's generation_config.
        attention_mask: of a padded batch.
        token_budget: tokens of prompts that go through the model at once.

    Raises:
        PackError: as ``prefill``; or the model's generation_config asks for what is not done here.
        UsageError: a setting is out of range, or there is not one of it for each prompt.
    """
    traits = check_decoder(model)
    ids = prompt_ids(prompts, tokenizer, attention_mask)
    _check_config(model)
    limits = _for_each(max_new_tokens, len(ids), "max_new_tokens")
    if min(limits) < 1:
        raise UsageError(f"max_new_tokens is {min(limits)}: give at least 1")
    stops = _stops(stop, len(ids), tokenizer)
    _check_positions(model, traits, ids, limits)
    sampler = Sampler(Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed), len(ids))
    ends = _ends(model, eos_token_id)
    writers = [_Writer(i, limits[i], stops[i], ends, tokenizer, ids[i]) for i in range(len(ids))]
    return _run(model, traits, ids, sampler, writers, token_budget)


@torch.no_grad()
def _run(
    model: PreTrainedModel, traits: Traits, ids: list[Ids], sampler: Sampler, writers: list[_Writer], token_budget: int | None
) -> Iterator[Completion]:  # fmt: skip
    """Prefill, then steps of all prompts that run; the model has its own attention whenever the caller has control."""
    caches = DecodingCaches(model, traits, [*map(len, ids)], [writer.limit for writer in writers])
    penalty = _Penalty.of(model, ids)
    last = dict[int, Tensor]()
    with packed_attention(model):
        for row in rows_of(model, traits, ids, token_budget):
            cache = RowCache()
            logits = run_row(
                model, traits, row, keep=torch.from_numpy(row.last).to(model.device), cache=cache
            ).logits[0]
            last.update((p, logits[i]) for i, branch in enumerate(row.branches) for p in branch.prompts)
            caches.take(row, cache)
    running = np.arange(len(ids))
    logits = torch.stack([last.pop(number) for number in running.tolist()])
    while True:
        with packed_attention(model):
            finished, running, tokens = _until_some_finish(logits, running, caches, sampler, penalty, writers)
        yield from finished
        if not len(running):
            return
        with packed_attention(model):
            logits = caches.step(running, tokens)


def _until_some_finish(
    logits: Tensor, running: Ids, caches: DecodingCaches, sampler: Sampler, penalty: _Penalty, writers: Sequence[_Writer]
) -> tuple[list[Completion], Ids, Tensor]:  # fmt: skip
    """Steps until prompts are finished: their completions, and the prompts that run on with their next tokens."""
    while True:
        tokens = sampler.choose(penalty.apply(logits.float(), running, writers), running.tolist())
        added = [
            writers[number].add(token)
            for number, token in zip(running.tolist(), tokens.tolist(), strict=True)
        ]
        if finished := [completion for completion in added if completion is not None]:
            still = [place for place, completion in enumerate(added) if completion is None]
            return finished, running[still], tokens[still]
        logits = caches.step(running, tokens)


class _Writer:
    """Collects the tokens of one prompt, and sees when it is finished."""

    def __init__(
        self, index: int, limit: int, stop: Sequence[str], ends: frozenset[int], tokenizer: Any, prompt: Ids
    ) -> None:
        self.index = index
        self.limit = limit
        self.ids = list[int]()
        self._stop = stop
        self._ends = ends
        self._tokenizer = tokenizer
        self._behind = tokenizer.decode_from(b"", prompt)[1] if isinstance(tokenizer, DecodesOn) else None
        self._tail = 8 + max(
            map(len, stop), default=0
        )  # a token gives at least one character, but for pieces of one

    def add(self, token: int) -> Completion | None:
        """The completion, if this token ends it."""
        self.ids.append(token)
        if self._stop and any(s in self._text(self._tail) for s in self._stop):
            text = self._text()
            places = [place for s in self._stop if (place := text.find(s)) >= 0]
            if places:
                return Completion(self.index, self.ids, text[: min(places)], "stop")
        reason = "eos" if token in self._ends else "length" if len(self.ids) == self.limit else None
        if reason is None:
            return None
        text = None if self._tokenizer is None else self._text()
        return Completion(self.index, self.ids, text, reason)

    def _text(self, tail: int = 0) -> str:
        """Of the last ``tail`` tokens, or of all; ids that mean something else after other text are read from the prompt on."""
        if self._behind is not None:
            return self._tokenizer.decode_from(self._behind, self.ids)[0].decode("utf-8", "replace")
        return decode(self._tokenizer, self.ids[-tail:])


@dataclass(frozen=True)
class _Penalty:
    """The repetition penalty of a model's generation_config, by transformers' own rule."""

    factor: float
    prompts: list[Ids]

    @staticmethod
    def of(model: PreTrainedModel, prompts: list[Ids]) -> _Penalty:
        return _Penalty(getattr(model.generation_config, "repetition_penalty", None) or 1.0, prompts)

    def apply(self, logits: Tensor, running: Ids, writers: Sequence[_Writer]) -> Tensor:
        if self.factor == 1.0:
            return logits
        from transformers import RepetitionPenaltyLogitsProcessor

        rule: Any = RepetitionPenaltyLogitsProcessor(self.factor)
        rows = list[Tensor]()
        for number, row in zip(running.tolist(), logits, strict=True):
            seen = [*self.prompts[number].tolist(), *writers[number].ids]
            rows.append(rule(torch.tensor([seen], device=logits.device), row[None]))
        return torch.cat(rows)


def _check_config(model: PreTrainedModel) -> None:
    config: Any = model.generation_config
    kind = getattr(config, "cache_implementation", None)
    if kind not in (None, "dynamic", "hybrid"):
        raise PackError(
            f"the model's generation_config asks for a cache of kind {kind!r}, but packed caches are dynamic: set "
            "model.generation_config.cache_implementation = None"
        )
    for name, nothing in _NOT_APPLIED.items():
        if getattr(config, name, None) not in (None, nothing):
            raise PackError(
                f"the model's generation_config sets {name}, which is not done here: set it to {nothing}, or use "
                "model.generate"
            )


def _check_positions(model: PreTrainedModel, traits: Traits, ids: list[Ids], limits: list[int]) -> None:
    """Rotary embeddings that change with length would change those of all prompts in a step."""
    bound = traits.longest_together
    for number, (prompt, limit) in enumerate(zip(ids, limits, strict=True)):
        if bound is not None and len(prompt) + limit > bound:
            raise PackError(
                f"prompt {number} may grow to {len(prompt) + limit} tokens, but past {bound} {type(model).__name__} turns all "
                "positions of a batch another way: lower max_new_tokens, or use model.generate for it"
            )


def _ends(model: PreTrainedModel, eos_token_id: int | Sequence[int] | None) -> frozenset[int]:
    given: Any = model.generation_config.eos_token_id if eos_token_id is None else eos_token_id
    return frozenset([given] if isinstance(given, int) else given or ())


def _stops(stop: Any, prompts: int, tokenizer: Any) -> list[Sequence[str]]:
    if isinstance(stop, str):
        raise UsageError("stop is one string: give a list of them")
    each = stop and not isinstance(stop[0], str)
    found: list[Sequence[str]] = _for_each(stop, prompts, "stop") if each else [stop] * prompts
    if tokenizer is None and any(found):
        raise UsageError("stop needs a tokenizer: give one, or stop at tokens by eos_token_id")
    return found


def _for_each(value: Any, prompts: int, name: str) -> list[Any]:
    if isinstance(value, int):
        return [value] * prompts
    if len(value) != prompts:
        raise UsageError(f"{name} has {len(value)} values for {prompts} prompts: give one, or one for each")
    return list(value)
