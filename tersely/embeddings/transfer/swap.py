"""Another tokenizer for a pretrained model, in one call.

The corpus gives words and passages held out (``passages.py``); the tokenizers give their byte views and decompositions, from
which ``match.py`` says what each new token is; a method makes the rows; ``tables.py`` and ``ids.py`` write them and the ids of
the settings; ``quality.py`` compares the model before and after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.embeddings.transfer.byte_target import fast_bytes
from tersely.embeddings.transfer.digits import digit_difference
from tersely.embeddings.transfer.distill import Losses, distill_rows
from tersely.embeddings.transfer.hypernet import Hypernet
from tersely.embeddings.transfer.hypernet.load import load_hypernet
from tersely.embeddings.transfer.ids import translate_settings
from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods import Fit, Mean, Method, MethodName, Predicted
from tersely.embeddings.transfer.passages import Spread, count_words, passages
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.quality import Comparison, Pooling
from tersely.embeddings.transfer.report import Language, SwapReport, norms_of
from tersely.embeddings.transfer.specials import (
    SpecialTokens,
    special_rows,
    split_chat_tokens,
    tokenizer_to_use,
)
from tersely.embeddings.transfer.tables import Tables, check_model, check_padding, exchange, row_lengths
from tersely.embeddings.transfer.tokens import TokenTable
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import TokenizeError, UsageError, choose
from tersely.tokenize import ByteTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MEASURED = 200
"""Held-out passages that are run through the model, before and after."""

_TRAINED_ON = 200_000
"""Passages that are kept to learn rows from, at most."""

_WORTH_TELLING = 0.001
"""Share of tokens without pieces of which a user is warned."""

Corpus = Iterable[str] | Mapping[str, Iterable[str]]
"""Texts, or texts by language."""

Progress = Callable[[str], None]
"""Is told what begins."""


@dataclass(frozen=True)
class _Learned:
    """What a corpus gives: how often words occur, passages to measure on, by language and of all, and passages to train on."""

    words: Counter[bytes]
    languages: dict[str, list[str]]
    held_out: list[str]
    trained_on: list[str]


def swap_tokenizer(
    model: PreTrainedModel,
    source_tokenizer: Any,
    target_tokenizer: Any,
    method: MethodName | str = MethodName.FIT,
    corpus: Corpus | None = None,
    special_tokens: SpecialTokens | str = SpecialTokens.KEEP,
    *,
    hypernet: Hypernet | Path | str | None = None,
    distill: int = 0,
    seed: int = 0,
    pooling: Pooling | str = Pooling.MEAN,
    on_progress: Progress | None = None,
) -> tuple[PreTrainedModel, SwapReport]:
    """Gives a model the rows of another tokenizer's vocabulary. Nothing is trained unless ``distill`` asks for it, and no model
    runs but to measure.

    Args:
        model: an encoder or decoder of transformers. It is changed, not copied.
        source_tokenizer: the fast tokenizer of transformers that the model was trained with.
        target_tokenizer: any fast tokenizer, of transformers or ``tokenizers``: byte-level BPE, SentencePiece BPE or Unigram,
            WordPiece; or our ``ByteTokenizer``.
        method: ``fit``, which needs a corpus, ``mean``, or ``hypernet``, which needs a network.
        corpus: texts like those that the model will see. A tenth of their passages is held out, to measure on.
            By language, if it is a mapping. Strings are texts: what is in files, ``tersely.corpus.read_texts`` reads.
        special_tokens: ``keep`` those of the model, with its chat template, or ``map`` them to those of the new tokenizer.
        hypernet: a network for this model, or the folder in which ``train_hypernet`` left it.
        distill: steps in which the rows are trained against the original model; needs a corpus. See ``distill_rows``.
        seed: of the order in which texts are trained on.
        pooling: how states of an encoder become that of a text.
        on_progress: is told each step as it begins.

    Returns:
        The model, and a report, whose ``tokenizer`` is the one to use: the target with the special tokens that were asked for.

    Raises:
        UsageError: no such method, no corpus for ``fit`` or ``distill``, or no network for ``hypernet``.
        TokenizeError: a tokenizer is not of those kinds.
        EmbeddingError: adapters, quantised embeddings, embeddings for each layer, a tokenizer that is not the model's,
            positions that are counted from an id for padding which would move, or a network for other rows.
    """
    chosen, owner = choose(MethodName, method), choose(SpecialTokens, special_tokens)
    tell = on_progress or (lambda step: None)
    states = choose(Pooling, pooling)
    _check(chosen, source_tokenizer, corpus, hypernet, distill)
    of_bytes = isinstance(target_tokenizer, ByteTokenizer)
    if of_bytes:
        target_tokenizer = fast_bytes(target_tokenizer)
    old = ByteView.of(source_tokenizer)
    check_model(model, len(old))
    network = None if hypernet is None else load_hypernet(hypernet, model, old)
    tell("counting words")
    learned = _learn(corpus or (), _TRAINED_ON if distill else 0)
    tell("matching vocabularies")
    used: Any = tokenizer_to_use(source_tokenizer, target_tokenizer, owner)
    check_padding(model, used.pad_token_id)
    new = ByteView.of(used)
    pieces, new_pieces = Decomposition(source_tokenizer, old), Decomposition(used, new)
    rows = special_rows(source_tokenizer, target_tokenizer, used, old, new)
    match = Match.of(old, pieces, new, rows, contained=of_bytes)
    tell("making rows")
    if network is not None:
        made: Method = Predicted(match, network, old, pieces, new)
    else:
        made = Mean(match) if chosen is MethodName.MEAN else Fit(match, learned.words, pieces, new_pieces)
    tell("measuring the model")
    comparison = Comparison(model, learned.held_out, source_tokenizer, used, pooling=states)
    comparison.before(source_tokenizer)
    tell("exchanging rows")
    kept, before = Tables.of(model).kept() if distill else None, _lengths(model, len(old))
    exchange(model, made, len(old), len(new), used.pad_token_id)
    losses = list[float]()
    if kept is not None:
        told = _told(tell, distill)
        losses = distill_rows(
            model, kept, source_tokenizer, used, learned.trained_on, distill,
            seed=seed, pooling=states, on_step=told,
        )  # fmt: skip
    after = _lengths(model, len(new))
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
        norms={name: norms_of(before[name][match.ordinary], after[name], made.origins) for name in before},
        quality=comparison.after(used),
        warnings=warnings,
        tokenizer=used,
        losses=losses,
        languages={
            name: _language(source_tokenizer, used, texts)
            for name, texts in learned.languages.items()
            if texts
        },
        tokens=TokenTable(old, new, match.pieces, made.origins, after["inputs"]),
    )


def _check(method: MethodName, source_tokenizer: Any, corpus: Any, hypernet: Any, distill: int) -> None:
    if not hasattr(source_tokenizer, "backend_tokenizer"):
        raise TokenizeError(
            "the source tokenizer must tell its special tokens: load it with transformers' AutoTokenizer"
        )
    if isinstance(corpus, str):
        raise UsageError("the corpus is one string: give a list of texts")
    if isinstance(corpus, Path):
        raise UsageError(
            f"{corpus} is a path: give the texts in it, corpus=tersely.corpus.read_texts([path])"
        )
    if distill < 0 or (distill and corpus is None):
        raise UsageError(
            f"{distill} steps of distillation: give a corpus to learn from, and at least one step"
        )
    if corpus is None and method is MethodName.FIT:
        raise UsageError("the method 'fit' learns from words: give corpus=texts, or choose method='mean'")
    if (hypernet is not None) is not (method is MethodName.HYPERNET):
        raise UsageError(
            "the method 'hypernet' and a network belong together: give method='hypernet', hypernet=FOLDER, or neither"
        )


def _learn(corpus: Corpus, trained_on: int) -> _Learned:
    """Words of nine passages in ten; of the others, as many of each language as will be measured, from all over it."""
    words, languages, train = Counter[bytes](), dict[str, list[str]](), Spread(max(trained_on, 1))
    for name, texts in _by_language(corpus).items():
        held_out = Spread(MEASURED)
        for passage, out in passages(_strings(texts)):
            if out:
                held_out.add(passage)
                continue
            count_words(words, passage)
            if trained_on:
                train.add(passage)
        languages[name] = held_out.chosen()
    together = [passage for held in languages.values() for passage in held]
    number = min(len(together), MEASURED)
    chosen = [together[place * len(together) // number] for place in range(number)]
    return _Learned(words, languages if isinstance(corpus, Mapping) else {}, chosen, train.chosen())


def _by_language(corpus: Corpus) -> Mapping[str, Iterable[str]]:
    return corpus if isinstance(corpus, Mapping) else {"": corpus}


def _strings(texts: Iterable[Any]) -> Iterator[str]:
    """The texts, none of which may be a path."""
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(
                f"the corpus holds {text!r}, no text: give strings; tersely.corpus.read_texts(paths) has those of files"
            )
        yield text


def _lengths(model: Any, size: int) -> dict[str, np.ndarray[Any, Any]]:
    """Of the first ``size`` rows of each table."""
    return {name: row_lengths(table)[:size] for name, table in Tables.of(model).named()}


def _told(tell: Progress, steps: int) -> Losses:
    return lambda done, loss: tell(f"training rows, step {done:,} of {steps:,}, loss {loss:.4f}")


def _language(before: Any, after: Any, texts: list[str]) -> Language:
    """Tokens per byte of one language."""
    sizes = [_tokens_per_byte(tokenizer, texts) or 0.0 for tokenizer in (before, after)]
    return Language(len(texts), *sizes)


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
