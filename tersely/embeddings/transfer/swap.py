"""Another tokenizer for a pretrained model, in one call.

The corpus gives words and passages held out (``passages.py``); the tokenizers give their byte views and decompositions, from
which ``match.py`` says what each new token is; a method makes the rows; ``tables.py`` and ``ids.py`` write them and the ids of
the settings; ``quality.py`` compares the model before and after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.embeddings.transfer.digits import digit_difference
from tersely.embeddings.transfer.hypernet import Hypernet
from tersely.embeddings.transfer.hypernet.load import load_hypernet
from tersely.embeddings.transfer.ids import translate_settings
from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods import Fit, Mean, Method, MethodName, Predicted
from tersely.embeddings.transfer.passages import count_words, passages
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.quality import Comparison
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

    words: Counter[bytes]
    held_out: list[str]


def swap_tokenizer(
    model: PreTrainedModel,
    source_tokenizer: Any,
    target_tokenizer: Any,
    method: MethodName | str = MethodName.FIT,
    corpus: Iterable[str] | None = None,
    special_tokens: SpecialTokens | str = SpecialTokens.KEEP,
    *,
    hypernet: Hypernet | Path | str | None = None,
    on_progress: Progress | None = None,
) -> tuple[PreTrainedModel, SwapReport]:
    """Gives a model the rows of another tokenizer's vocabulary. Nothing is trained, and no model runs but to measure.

    Args:
        model: an encoder or decoder of transformers. It is changed, not copied.
        source_tokenizer: the fast tokenizer of transformers that the model was trained with.
        target_tokenizer: any fast tokenizer, of transformers or ``tokenizers``: byte-level BPE, SentencePiece BPE or Unigram,
            WordPiece.
        method: ``fit``, which needs a corpus, ``mean``, or ``hypernet``, which needs a network.
        corpus: texts like those that the model will see. A tenth of their passages is held out, to measure on.
        special_tokens: ``keep`` those of the model, with its chat template, or ``map`` them to those of the new tokenizer.
        hypernet: a network for this model, or the folder in which ``train_hypernet`` left it.
        on_progress: is told each step as it begins.

    Returns:
        The model, and a report, whose ``tokenizer`` is the one to use: the target with the special tokens that were asked for.

    Raises:
        UsageError: no such method, no corpus for ``fit``, or no network for ``hypernet``.
        TokenizeError: a tokenizer is not of those kinds.
        EmbeddingError: adapters, quantised embeddings, embeddings for each layer, a tokenizer that is not the model's,
            positions that are counted from an id for padding which would move, or a network for other rows.
    """
    chosen, owner = choose(MethodName, method), choose(SpecialTokens, special_tokens)
    tell = on_progress or (lambda step: None)
    _check(chosen, source_tokenizer, corpus, hypernet)
    old = ByteView.of(source_tokenizer)
    check_model(model, len(old))
    network = None if hypernet is None else load_hypernet(hypernet, model, old)
    tell("counting words")
    learned = _learn(corpus or ())
    tell("matching vocabularies")
    used: Any = tokenizer_to_use(source_tokenizer, target_tokenizer, owner)
    check_padding(model, used.pad_token_id)
    new = ByteView.of(used)
    pieces, new_pieces = Decomposition(source_tokenizer, old), Decomposition(used, new)
    match = Match.of(old, pieces, new, special_rows(source_tokenizer, target_tokenizer, used, old, new))
    tell("making rows")
    if network is not None:
        made: Method = Predicted(match, network, old, pieces, new)
    else:
        made = Mean(match) if chosen is MethodName.MEAN else Fit(match, learned.words, pieces, new_pieces)
    tell("measuring the model")
    comparison = Comparison(model, learned.held_out, source_tokenizer, used)
    comparison.before(source_tokenizer)
    tell("exchanging rows")
    norms = _exchange(model, made, match, old, new, used.pad_token_id)
    warnings = translate_settings(model, source_tokenizer, used)
    warnings += _warnings(source_tokenizer, used, made, learned.held_out)
    if difference := digit_difference(pieces, new_pieces):
        warnings.append(difference)
    if corpus is not None and not learned.held_out:
        warnings.append("the corpus is too small to measure on: give at least ten passages")
    tell("measuring the swapped model")
    return model, SwapReport(
        method=str(chosen),
        vocab_size_before=len(old),
        vocab_size_after=len(new),
        tokens_per_byte_before=_tokens_per_byte(source_tokenizer, learned.held_out),
        tokens_per_byte_after=_tokens_per_byte(used, learned.held_out),
        origins=made.origins,
        norms=norms,
        quality=comparison.after(used),
        warnings=warnings,
        tokenizer=used,
    )


def _check(method: MethodName, source_tokenizer: Any, corpus: Any, hypernet: Any) -> None:
    if not hasattr(source_tokenizer, "backend_tokenizer"):
        raise TokenizeError(
            "the source tokenizer must tell its special tokens: load it with transformers' AutoTokenizer"
        )
    if isinstance(corpus, str):
        raise UsageError("the corpus is one string: give a list of texts")
    if corpus is None and method is MethodName.FIT:
        raise UsageError("the method 'fit' learns from words: give corpus=texts, or choose method='mean'")
    if (hypernet is not None) is not (method is MethodName.HYPERNET):
        raise UsageError(
            "the method 'hypernet' and a network belong together: give method='hypernet', hypernet=FOLDER, or neither"
        )


def _learn(corpus: Iterable[str]) -> _Learned:
    """Words of nine passages in ten; of the others, as many as will be measured, from all over the corpus."""
    words, held_out, keep_each, seen = Counter[bytes](), list[str](), 1, 0
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


def _exchange(
    model: Any, made: Method, match: Match, old: ByteView, new: ByteView, padding: int | None
) -> dict[str, Norms]:
    """Writes the rows; returns their lengths by table."""
    before = {name: row_lengths(table)[: len(old)] for name, table in Tables.of(model).named()}
    exchange(model, made, len(old), len(new), padding)
    after = {name: row_lengths(table)[: len(new)] for name, table in Tables.of(model).named()}
    return {name: norms_of(before[name][match.ordinary], after[name], made.origins) for name in before}


def _warnings(source: Any, used: Any, made: Method, texts: list[str]) -> list[str]:
    """What the tokenizers, and texts in the new one, give cause to say."""
    found = list[str]()
    if split := split_chat_tokens(source, used):
        found.append(
            f"the chat template writes {', '.join(split[:8])}, no longer one id each: add them as special tokens to the new "
            "tokenizer before the swap"
        )
    if (share := _average_share(used, made, texts)) > _WORTH_TELLING:
        found.append(
            f"{share:.1%} of the tokens of held-out text have the mean of all rows, for the old vocabulary drops or cannot spell "
            "them (blanks, line breaks): take them out of the texts, or train the model further"
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
