"""Another tokenizer for a pretrained model, in one call.

The corpus gives words and passages held out (``passages.py``); the tokenizers give their byte views and decompositions, from
which ``match.py`` says what each new token is; a method makes the rows; ``tables.py`` and ``ids.py`` write them and the ids of
the settings; ``quality.py`` compares the model before and after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.embeddings.transfer.digits import digit_difference
from tersely.embeddings.transfer.ids import translate_settings
from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods import Fit, Mean, Method, MethodName
from tersely.embeddings.transfer.passages import Word, count_words, passages
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.quality import Quality, bits, compare_states, generates, rows_of, states
from tersely.embeddings.transfer.report import Norms, SwapReport, norms_of
from tersely.embeddings.transfer.specials import (
    SpecialTokens,
    special_rows,
    split_chat_tokens,
    tokenizer_to_use,
)
from tersely.embeddings.transfer.tables import Tables, check_model, check_padding, exchange, row_lengths
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import TokenizeError, UsageError, choose

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MEASURED = 200
"""Held-out passages that are run through the model, before and after."""

_WORTH_TELLING = 0.001
"""Share of tokens without pieces of which a user is warned."""

Progress = Callable[[str], None]
"""Is told what begins."""


@dataclass(frozen=True)
class _Learned:
    """What a corpus gives: how often words occur, and passages to measure on."""

    words: Counter[Word]
    held_out: list[str]


def swap_tokenizer(
    model: PreTrainedModel,
    source_tokenizer: Any,
    target_tokenizer: Any,
    method: MethodName | str = MethodName.FIT,
    corpus: Iterable[str] | None = None,
    special_tokens: SpecialTokens | str = SpecialTokens.KEEP,
    *,
    on_progress: Progress | None = None,
) -> tuple[PreTrainedModel, SwapReport]:
    """Gives a model the rows of another tokenizer's vocabulary. Nothing is trained, and no model runs but to measure.

    Args:
        model: an encoder or decoder of transformers. It is changed, not copied.
        source_tokenizer: the fast tokenizer of transformers that the model was trained with.
        target_tokenizer: any fast tokenizer, of transformers or ``tokenizers``: byte-level BPE, SentencePiece BPE or Unigram,
            WordPiece.
        method: ``fit``, which needs a corpus, or ``mean``.
        corpus: texts like those that the model will see. A tenth of their passages is held out, to measure on.
        special_tokens: ``keep`` those of the model, with its chat template, or ``map`` them to those of the new tokenizer.
        on_progress: is told each step as it begins.

    Returns:
        The model, and a report, whose ``tokenizer`` is the one to use: the target with the special tokens that were asked for.

    Raises:
        UsageError: no such method, or no corpus for ``fit``.
        TokenizeError: a tokenizer is not of those kinds.
        EmbeddingError: adapters, quantised embeddings, embeddings for each layer, a tokenizer that is not the model's, or
            positions that are counted from an id for padding which would move.
    """
    chosen, owner = choose(MethodName, method), choose(SpecialTokens, special_tokens)
    tell = on_progress or (lambda step: None)
    if not hasattr(source_tokenizer, "backend_tokenizer"):
        raise TokenizeError(
            "the source tokenizer must tell its special tokens: load it with transformers' AutoTokenizer"
        )
    if isinstance(corpus, str):
        raise UsageError("the corpus is one string: give a list of texts")
    if corpus is None and chosen is MethodName.FIT:
        raise UsageError("the method 'fit' learns from words: give corpus=texts, or choose method='mean'")
    old = ByteView.of(source_tokenizer)
    check_model(model, len(old))
    tell("counting words")
    learned = _learn(corpus or ())
    tell("matching vocabularies")
    used: Any = tokenizer_to_use(source_tokenizer, target_tokenizer, owner)
    check_padding(model, used.pad_token_id)
    new = ByteView.of(used)
    pieces, new_pieces = Decomposition(source_tokenizer, old), Decomposition(used, new)
    match = Match.of(old, pieces, new, special_rows(source_tokenizer, target_tokenizer, used, old, new))
    tell("making rows")
    made = Mean(match) if chosen is MethodName.MEAN else Fit(match, learned.words, pieces, new_pieces)
    shown = _both_fit(model, learned.held_out, source_tokenizer, used)
    measure = _Measure(model, shown)
    tell("measuring the model")
    measure.before(source_tokenizer)
    tell("exchanging rows")
    norms = _exchange(model, made, match, old, new, used.pad_token_id)
    warnings = translate_settings(model, source_tokenizer, used)
    if difference := digit_difference(pieces, new_pieces):
        warnings.append(difference)
    if (share := _average_share(used, made, learned.held_out)) > _WORTH_TELLING:
        warnings.append(
            f"{share:.1%} of the tokens of held-out text have the mean of all rows, for the old vocabulary drops or cannot spell "
            "them (blanks, line breaks): take them out of the texts, or train the model further"
        )
    warnings += _warnings(source_tokenizer, used, learned, corpus)
    tell("measuring the swapped model")
    quality = measure.after(used)
    report = SwapReport(
        method=str(chosen),
        vocab_size_before=len(old),
        vocab_size_after=len(new),
        tokens_per_byte_before=_tokens_per_byte(source_tokenizer, learned.held_out),
        tokens_per_byte_after=_tokens_per_byte(used, learned.held_out),
        origins=made.origins,
        norms=norms,
        quality=quality,
        warnings=warnings,
        tokenizer=used,
    )
    return model, report


def _learn(corpus: Iterable[str]) -> _Learned:
    """Words of nine passages in ten; of the others, as many as will be measured, from all over the corpus."""
    words, held_out, keep_each, seen = Counter[Word](), list[str](), 1, 0
    for passage, out in passages(corpus):
        if not out:
            count_words(words, passage)
            continue
        if seen % keep_each == 0:
            held_out.append(passage)
        seen += 1
        if len(held_out) == 2 * MEASURED:
            held_out, keep_each = held_out[::2], 2 * keep_each
    number = min(len(held_out), MEASURED)
    return _Learned(words, [held_out[place * len(held_out) // number] for place in range(number)])


def _both_fit(model: Any, texts: list[str], *tokenizers: Any) -> list[str]:
    """The passages that are not too long for the model's positions under any tokenizer."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    return [text for text in texts if all(len(part(text)["input_ids"]) < longest - 2 for part in tokenizers)]


def _exchange(
    model: Any, made: Method, match: Match, old: ByteView, new: ByteView, padding: int | None
) -> dict[str, Norms]:
    """Writes the rows; returns their lengths by table."""
    before = {name: row_lengths(table)[: len(old)] for name, table in Tables.of(model).named()}
    exchange(model, made, len(old), len(new), padding)
    after = {name: row_lengths(table)[: len(new)] for name, table in Tables.of(model).named()}
    return {name: norms_of(before[name][match.ordinary], after[name], made.origins) for name in before}


def _warnings(source: Any, used: Any, learned: _Learned, corpus: Any) -> list[str]:
    found = list[str]()
    if split := split_chat_tokens(source, used):
        found.append(
            f"the chat template writes {', '.join(split[:8])}, no longer one id each: add them as special tokens to the new "
            "tokenizer before the swap"
        )
    if corpus is not None and not learned.held_out:
        found.append(
            "the corpus is too small to hold text out, so nothing was measured: give at least 10 passages"
        )
    return found


def _tokens_per_byte(tokenizer: Any, texts: list[str]) -> float | None:
    if not texts:
        return None
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return sum(map(len, ids)) / sum(len(text.encode()) for text in texts)


def _average_share(tokenizer: Any, made: Method, texts: list[str]) -> float:
    """The share of the tokens of texts whose rows are the mean of all."""
    if not texts:
        return 0.0
    ids = np.concatenate(tokenizer(texts, add_special_tokens=False)["input_ids"]).astype(np.int64)
    return float(np.mean(made.origins[ids] == ORIGINS.index(Origin.AVERAGE)))


class _Measure:
    """Measures a model, on the same passages, before and after its rows are exchanged."""

    def __init__(self, model: Any, texts: list[str]) -> None:
        self._model, self._texts = model, texts
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
        result = bits(self._model, rows) if self._decoder else states(self._model, rows)
        self._model.train(training)
        return result
