"""Another tokenizer for a pretrained model, in one call.

The corpus gives words and passages held out (``passages.py``); the tokenizers give their byte views and decompositions, from
which ``match.py`` says what each new token is; a method makes the rows; ``tables.py`` and ``ids.py`` write them and the ids of
the settings; ``quality.py`` compares the model before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.embeddings.transfer.byte_target import fast_bytes
from tersely.embeddings.transfer.cooccurrence import token_vectors
from tersely.embeddings.transfer.digits import digit_difference
from tersely.embeddings.transfer.distill import Losses, distill_rows
from tersely.embeddings.transfer.donor import donor_rows
from tersely.embeddings.transfer.hypernet import Hypernet
from tersely.embeddings.transfer.hypernet.load import load_hypernet
from tersely.embeddings.transfer.ids import translate_settings
from tersely.embeddings.transfer.learned import Corpus, Learned, learn
from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods import (
    Fit,
    Focus,
    Frequency,
    Mean,
    Method,
    MethodName,
    Omp,
    Predicted,
)
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.quality import Comparison, Pooling, Quality, generates
from tersely.embeddings.transfer.report import Language, SwapReport, norms_of
from tersely.embeddings.transfer.specials import (
    SpecialTokens,
    special_rows,
    split_chat_tokens,
    tokenizer_to_use,
)
from tersely.embeddings.transfer.tables import Tables, check_model, check_padding, exchange, row_lengths
from tersely.embeddings.transfer.tokens import TokenTable
from tersely.embeddings.transfer.vocabulary import ByteView, Family
from tersely.errors import TokenizeError, UsageError, choose
from tersely.tokenize import ByteTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TRAINED_ON = 200_000
"""Passages that are kept to learn rows from, at most."""

_WORTH_TELLING = 0.001
"""Share of tokens without pieces of which a user is warned."""

Progress = Callable[[str], None]
"""Is told what begins."""


@dataclass(frozen=True)
class Ready:
    """A swap before any row has moved.

    Attributes:
        method: how rows are made.
        has_corpus: whether there was one.
        source: the tokenizer of the model.
        used: the tokenizer that it will have.
        old: the vocabulary of the first.
        new: that of the second.
        pieces: any bytes in pieces of the first.
        new_pieces: any bytes in pieces of the second.
        match: the two vocabularies.
        made: makes the rows.
        learned: what the corpus gave.
    """

    method: MethodName
    has_corpus: bool
    source: Any
    used: Any
    old: ByteView
    new: ByteView
    pieces: Decomposition
    new_pieces: Decomposition
    match: Match
    made: Method
    learned: Learned


def swap_tokenizer(
    model: PreTrainedModel,
    source_tokenizer: Any,
    target_tokenizer: Any,
    method: MethodName | str = MethodName.FIT,
    corpus: Corpus | None = None,
    special_tokens: SpecialTokens | str = SpecialTokens.KEEP,
    *,
    hypernet: Hypernet | Path | str | None = None,
    donor: PreTrainedModel | Path | str | None = None,
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
        method: ``fit`` or ``focus``, which need a corpus, ``mean``, ``hypernet``, which needs a network, or ``omp``, which needs
            a donor.
        corpus: texts like those that the model will see. A tenth of their passages is held out, to measure on.
            By language, if it is a mapping. Strings are texts: what is in files, ``tersely.corpus.read_texts`` reads.
        special_tokens: ``keep`` those of the model, with its chat template, or ``map`` them to those of the new tokenizer.
        hypernet: a network for this model, or the folder in which ``train_hypernet`` left it. That of a decoder needs a corpus, which
            tells it how often tokens occur.
        donor: a model that was trained with the target tokenizer, or its folder, of which only the inputs are read.
        distill: steps in which the rows are trained against the original model; needs a corpus. See ``distill_rows``.
        seed: of the order in which texts are trained on.
        pooling: how states of an encoder become that of a text.
        on_progress: is told each step as it begins.

    Returns:
        The model, and a report, whose ``tokenizer`` is the one to use: the target with the special tokens that were asked for.

    Raises:
        UsageError: no such method, or not what it needs: no corpus for ``fit``, ``focus`` or ``distill``, no network for
            ``hypernet``, no donor for ``omp``.
        TokenizeError: a tokenizer is not of those kinds.
        EmbeddingError: adapters, quantised embeddings, embeddings for each layer, a tokenizer that is not the model's,
            positions that are counted from an id for padding which would move, a network for other rows, a donor for another
            tokenizer, or vocabularies that share no token.
    """
    tell, states = on_progress or (lambda step: None), choose(Pooling, pooling)
    ready = prepare(
        model, source_tokenizer, target_tokenizer, method, corpus, special_tokens,
        hypernet=hypernet, donor=donor, distill=distill, on_progress=tell,
    )  # fmt: skip
    used = ready.used
    tell("measuring the model")
    comparison = Comparison(model, ready.learned.held_out, source_tokenizer, used, pooling=states)
    comparison.before(source_tokenizer)
    tell("exchanging rows")
    kept, before = Tables.of(model).kept() if distill else None, _lengths(model, len(ready.old))
    exchange(model, ready.made, len(ready.old), len(ready.new), used.pad_token_id)
    losses = list[float]()
    if kept is not None:
        told = _told(tell, distill)
        losses = distill_rows(
            model, kept, source_tokenizer, used, ready.learned.trained_on, distill,
            seed=seed, pooling=states, on_step=told,
        )  # fmt: skip
    after = _lengths(model, len(ready.new))
    lost = translate_settings(model, source_tokenizer, used)
    tell("measuring the swapped model")
    return model, report_of(ready, before, after, lost, comparison.after(used), losses)


def prepare(
    model: Any,
    source: Any,
    target: Any,
    method: MethodName | str,
    corpus: Corpus | None,
    special_tokens: SpecialTokens | str,
    *,
    hypernet: Hypernet | Path | str | None = None,
    donor: Any = None,
    distill: int = 0,
    built: bool = True,
    on_progress: Progress,
) -> Ready:
    """All of a swap that needs no rows of the model: as for ``swap_tokenizer``, but ``built`` says whether it has weights."""
    chosen, owner = choose(MethodName, method), choose(SpecialTokens, special_tokens)
    _check(chosen, source, corpus, hypernet, donor, distill)
    of_bytes = isinstance(target, ByteTokenizer)
    if of_bytes:
        target = fast_bytes(target)
    old = ByteView.of(source)
    check_model(model, len(old), built)
    network = None if hypernet is None else load_hypernet(hypernet, model, old)
    if network is not None and network.config.counted and corpus is None:
        raise UsageError(
            "the network of a decoder must be told how often tokens occur: give a corpus, --corpus or corpus=texts"
        )
    # Before the corpus is read, for that takes long and this may be refused.
    given = None if donor is None else donor_rows(donor, ByteView.of(target))
    on_progress("counting words")
    learned = learn(corpus or (), _TRAINED_ON if distill or chosen is MethodName.FOCUS else 0)
    on_progress("matching vocabularies")
    used: Any = tokenizer_to_use(source, target, owner)
    check_padding(model, used.pad_token_id)
    new = ByteView.of(used)
    pieces, new_pieces = Decomposition(source, old), Decomposition(used, new)
    specials = special_rows(source, target, used, old, new)
    # Networks learned from pieces that are told by their looks alone.
    tells = old.family is Family.WORDPIECE and network is None and learned.words
    beginnings = new_pieces.beginnings(learned.words) if tells else None
    match = Match.of(old, pieces, new, specials, of_bytes, beginnings)
    on_progress("making rows")
    if network is not None:
        made: Method = Predicted(match, network, old, pieces, new, new_pieces, learned.words)
    elif given is not None:
        made = Omp(match, given, np.array([bool(spelling) for spelling in new.spellings]))
    elif chosen is MethodName.FOCUS:
        made = Focus(match, token_vectors(used, learned.trained_on, len(new)))
    elif chosen is MethodName.MEAN:
        made = Mean(match)
    elif generates(model):
        tied = Tables.of(model).head is None
        made = Frequency(match, old, learned.words, pieces, new_pieces, tied)
    else:
        made = Fit(match, learned.words, pieces, new_pieces)
    return Ready(chosen, corpus is not None, source, used, old, new, pieces, new_pieces, match, made, learned)


def report_of(
    ready: Ready,
    before: dict[str, np.ndarray[Any, Any]],
    after: dict[str, np.ndarray[Any, Any]],
    lost: list[str],
    quality: Quality | None,
    losses: list[float],
) -> SwapReport:
    """What is told of a swap.

    Args:
        ready: the swap.
        before: lengths of the old rows, ``(V_old,)``, by table.
        after: lengths of the new ones, ``(V_new,)``.
        lost: settings that could not be kept, a sentence each.
        quality: what was measured.
        losses: of the training.
    """
    source, used, learned, origins = ready.source, ready.used, ready.learned, ready.made.origins
    warnings = lost + _warnings(source, used, ready.made, learned.held_out)
    if difference := digit_difference(ready.pieces, ready.new_pieces):
        warnings.append(difference)
    if ready.has_corpus and not learned.held_out:
        warnings.append("the corpus is too small to measure on: give at least ten passages")
    if quality is not None and quality.no_better_than_guesses:
        warnings.append(
            "the swapped model foretells held-out text no better than guesses of bytes: make its rows with a network (hypernet), "
            "train them (distill), or take a tokenizer whose tokens are more like the old ones"
        )
    return SwapReport(
        method=str(ready.method),
        vocab_size_before=len(ready.old),
        vocab_size_after=len(ready.new),
        tokens_per_byte_before=_tokens_per_byte(source, learned.held_out),
        tokens_per_byte_after=_tokens_per_byte(used, learned.held_out),
        origins=origins,
        norms={name: norms_of(before[name][ready.match.ordinary], after[name], origins) for name in before},
        quality=quality,
        warnings=warnings,
        tokenizer=used,
        losses=losses,
        languages={
            name: _language(source, used, texts) for name, texts in learned.languages.items() if texts
        },
        tokens=TokenTable(ready.old, ready.new, ready.match.pieces, origins, after["inputs"]),
    )


def _check(
    method: MethodName, source_tokenizer: Any, corpus: Any, hypernet: Any, donor: Any, distill: int
) -> None:
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
    if corpus is None and method in (MethodName.FIT, MethodName.FOCUS):
        raise UsageError(
            f"the method '{method}' learns from words: give corpus=texts, or choose method='mean'"
        )
    if (hypernet is not None) is not (method is MethodName.HYPERNET):
        raise UsageError(
            "the method 'hypernet' and a network belong together: give method='hypernet', hypernet=FOLDER, or neither"
        )
    if (donor is not None) is not (method is MethodName.OMP):
        raise UsageError(
            "the method 'omp' and a donor belong together: give method='omp', donor=MODEL, or neither"
        )


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
