"""Byte-level BPE from word counts, as ``tokenizers`` trains it, and with superwords (SuperBPE, arXiv 2503.13423).

Symbols: special tokens first, then the 256 bytes in the order of their ByteLevel characters, then the merges. With
superwords the vocabulary is learned in two stages (section 3 there): an ordinary one, and one that goes on from its
merges on text that is cut only where a superword must not go on, so that frequent phrases become tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from tersely.errors import UsageError
from tersely.ragged import Ragged
from tersely.tokenize.bytelevel import byte_characters
from tersely.tokenize.train.count import Price, WordCounts
from tersely.tokenize.train.merges import learn_merges
from tersely.tokenize.train.words import LOOSE_PATTERN

Array: TypeAlias = np.ndarray[Any, Any]

PRICE = Price(24, 64)
"""What training costs."""

WORDS_IN_TOKEN = 4
"""A superword has at most so many words."""


def train_bpe(
    words: WordCounts,
    vocab_size: int,
    *,
    specials: Sequence[str] = ("<|endoftext|>",),
    min_count: int = 2,
    superwords: WordCounts | None = None,
    superword_share: float = 0.2,
    on_progress: Callable[[int], None] | None = None,
) -> tokenizers.Tokenizer:
    """A tokenizer with at most ``vocab_size`` ids, special tokens included; any bytes round trip.

    Args:
        words: counted with ``Split.GPT2``.
        vocab_size: fewer ids are made if no pair is left that occurs ``min_count`` times.
        specials: get the first ids.
        min_count: pairs that occur less often are not merged.
        superwords: a sample of the corpus counted with ``Split.LOOSE``, to learn superwords from.
        superword_share: share of ``vocab_size`` that is left to them.
        on_progress: called now and then with the number of merges so far.

    Raises:
        UsageError: the vocabulary has no room for 256 bytes and the special tokens, a special token is given twice or
            is spelled like a learned one, or the share is not between 0 and 1.
    """
    room = merges_in(vocab_size, specials)
    if not 0 < superword_share < 1:
        raise UsageError(f"superword_share {superword_share} must be between 0 and 1")
    first = room if superwords is None else max(0, room - int(vocab_size * superword_share))
    weights = np.ones(len(specials) + 256, np.int64)
    merges = learn_merges(
        as_symbols(words.words, len(specials)),
        words.counts,
        weights,
        first,
        min_count=min_count,
        on_progress=on_progress,
    )
    if superwords is not None:
        ordinary = len(merges)
        weights[:] = 0
        weights[len(specials) + byte_order()[ord(" ")]] = 1
        merges = learn_merges(
            as_symbols(superwords.words, len(specials)),
            superwords.counts,
            weights,
            room,
            given=merges,
            min_count=min_count,
            max_weight=WORDS_IN_TOKEN,
            on_progress=on_progress and (lambda done: on_progress(max(done, ordinary))),
        )
    return _assemble(merges, specials, superwords is not None)


def merges_in(vocab_size: int, specials: Sequence[str]) -> int:
    """How many merges there is room for; raises UsageError if there is none for the bytes."""
    if len(set(specials)) != len(specials) or not all(specials):
        raise UsageError("a special token is empty or given twice: name each once")
    room = vocab_size - 256 - len(specials)
    if room < 0:
        raise UsageError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {len(specials)} special tokens need "
            f"{256 + len(specials)}"
        )
    return room


def byte_order() -> Array:
    """For each byte its place among the bytes ordered by their characters, shape ``(256,)``, int32."""
    characters = byte_characters()
    places = {character: place for place, character in enumerate(sorted(characters))}
    return np.array([places[character] for character in characters], np.int32)


def as_symbols(words: Ragged, specials: int) -> Ragged:
    """Rows of bytes as rows of symbols."""
    return Ragged((byte_order() + specials).astype(np.int32)[words.values], words.offsets)


def _assemble(merges: Array, specials: Sequence[str], loose: bool) -> tokenizers.Tokenizer:
    names = [*specials, *sorted(byte_characters())]
    named: list[tuple[str, str]] = []
    for left, right in merges.tolist():
        named.append((names[left], names[right]))
        names.append(names[left] + names[right])
    vocabulary = {name: place for place, name in enumerate(names)}
    if len(vocabulary) != len(names):
        spelled = next(name for name in specials if name in names[len(specials) :])
        raise UsageError(f"the special token {spelled!r} is also a learned token: spell it in another way")
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, named))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not loose)
    if loose:
        split = pre_tokenizers.Split(Regex(LOOSE_PATTERN), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    else:
        tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    return tokenizer
