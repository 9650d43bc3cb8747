"""Tokenizers drawn at random, of the kinds that a model may be given: BPE, Unigram and WordPiece.

A Unigram or WordPiece vocabulary is drawn from the parts of words in a sample of texts (substrings.py): counts with noise of a
random strength decide which parts are tried (arXiv 2405.07883, section 3), and words that are cut by them which stay, with what
score. A BPE is one of some that were trained on parts of the sample, cut off after a random number of merges, which is a BPE again.
Sizes are even on a scale of logarithms; a few BPEs are smaller, down to bytes. All have every byte, or every character of the
sample, so that they spell any text like it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tersely.embeddings.transfer.hypernet.substrings import Substrings, find_substrings
from tersely.embeddings.transfer.vocabulary import BLANK, stands_alone
from tersely.tokenize.bytelevel import byte_characters

SMALLEST, LARGEST = 1500, 32768
"""Tokens of a drawn vocabulary, besides bytes and characters."""

_BPE, _UNIGRAM = 0.5, 0.3  # shares; the others are WordPiece
_TINY = 0.05  # share of BPEs with fewer tokens than the smallest, down to bytes alone
_NOISE = 1.5  # the largest standard deviation of the noise, in logarithms of counts
_MORE = 3.0  # parts that are cut with, of those that stay, at most
_WORDS = 50_000  # different words that parts are taken from
_PARTS = 120_000
_BASE_CHARACTERS = 2_000_000  # of the text that a BPE is trained on
_WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?!\S)|\s+")
_SPACED = re.compile(r" ?\S+")
_THREE_DIGITS = r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
_UNKNOWN = "<unk>"

_letters = byte_characters()


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer that was drawn.

    Attributes:
        tokenizer: puts no special tokens around a text.
        tokens: the bytes of each id.
        unknown: the id for what it cannot spell, -1 if it spells all.
    """

    tokenizer: Tokenizer
    tokens: list[bytes]
    unknown: int


class Vocabularies:
    """Draws tokenizers.

    Args:
        texts: a sample of the corpus, at least one.
        generator: decides what BPEs are trained on.
        bases: how many BPEs are trained.
    """

    def __init__(self, texts: Sequence[str], generator: np.random.Generator, bases: int) -> None:
        self._parts = [
            _Parts(texts, _WORD, lower=False),
            _Parts(texts, _WORD, lower=True),
            _Parts(texts, _SPACED, lower=False),
        ]
        self._bases = [_Base(texts, generator, number) for number in range(bases)]

    def draw(self, generator: np.random.Generator) -> Vocabulary:
        """One, decided by the generator alone."""
        kind, size = generator.random(), int(np.exp(generator.uniform(np.log(SMALLEST), np.log(LARGEST))))
        if kind < _BPE:
            size = int(generator.integers(SMALLEST)) if kind < _TINY else size
            return self._bases[generator.integers(len(self._bases))].cut_off(size, generator)
        if kind < _BPE + _UNIGRAM:
            return self._unigram(size, generator)
        return self._wordpiece(size, generator)

    def each(self, size: int, generator: np.random.Generator) -> list[Vocabulary]:
        """A tokenizer of each kind, of about this size."""
        base = self._bases[generator.integers(len(self._bases))]
        return [
            base.cut_off(size, generator),
            self._unigram(size, generator),
            self._wordpiece(size, generator),
        ]

    def _unigram(self, size: int, generator: np.random.Generator) -> Vocabulary:
        which = int(generator.integers(3))
        parts = self._parts[which]
        texts, scores = parts.choose(size, generator)
        if generator.random() < 0.5:
            return _byte_unigram(
                texts, scores, parts.lower, _byte_level(generator, int(generator.integers(3)))
            )
        return _marked_unigram(texts, scores, parts)

    def _wordpiece(self, size: int, generator: np.random.Generator) -> Vocabulary:
        parts = self._parts[int(generator.integers(2))]
        texts, _ = parts.choose(size, generator)
        singles = [form for letter in parts.characters for form in (letter, f"##{letter}")]
        spelled = [text[1:] if text[0] == " " else f"##{text}" for text in texts]
        spelled = list(dict.fromkeys([_UNKNOWN, *singles, *(text for text in spelled if text[-1].isalnum())]))
        model = models.WordPiece(
            {text: number for number, text in enumerate(spelled)},
            unk_token=_UNKNOWN,
            max_input_chars_per_word=1000,
        )
        tokenizer: Any = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=parts.lower, strip_accents=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return Vocabulary(tokenizer, [_bytes_of_wordpiece(text) for text in spelled], 0)


class _Parts:
    """Parts of the words of texts, words being what a pattern finds."""

    def __init__(self, texts: Sequence[str], pattern: re.Pattern[str], lower: bool) -> None:
        words = Counter[str]()
        for text in texts:
            words.update(pattern.findall(text.lower() if lower else text))
        self.lower = lower
        self.characters = sorted({letter for word in words for letter in word if letter != " "})
        self._frequent = words.most_common(_WORDS)
        found: Substrings = find_substrings(dict(self._frequent), _PARTS)
        self._texts = np.array(found.texts, dtype=object)
        self._logs = np.log(found.counts)

    def choose(self, size: int, generator: np.random.Generator) -> tuple[list[str], np.ndarray[Any, Any]]:
        """At most ``size`` of the parts, and logarithms of their shares.

        More are taken by counts with noise. Those stay that spare most pieces when words are cut by them.
        """
        logs = self._logs + generator.uniform(0, _NOISE) * generator.standard_normal(len(self._logs))
        many = min(int(size * generator.uniform(1, _MORE)), len(logs))
        top = np.argpartition(-logs, many - 1)[:many] if many else np.zeros(0, np.int64)
        texts, logs = self._texts[top].tolist(), logs[top] - np.logaddexp.reduce(logs[top])
        used = self._used(texts, logs, 2 * size)
        spared = used * np.array([len(text) - 1 for text in texts])
        kept = np.argsort(-spared, kind="stable")[: min(size, int((used > 0).sum()))]
        return [texts[place] for place in kept.tolist()], np.log(used[kept] / used.sum())

    def _used(self, texts: list[str], logs: np.ndarray[Any, Any], number: int) -> np.ndarray[Any, Any]:
        """How often each is used in the most frequent words."""
        low = float(logs.min(initial=0.0)) - 2
        listed = [
            *zip(texts, logs.tolist(), strict=True),
            *((letter, low) for letter in (" ", *self.characters)),
        ]
        model: Any = models.Unigram([*listed, (_UNKNOWN, low)], len(listed), False)
        used = np.zeros(len(listed) + 1)
        for word, count in self._frequent[:number]:
            for token in model.tokenize(word):
                used[token.id] += count
        return used[: len(texts)]


class _Base:
    """A byte-level BPE with many merges."""

    def __init__(self, texts: Sequence[str], generator: np.random.Generator, number: int) -> None:
        self._lower, self._split = number % 4 == 3, number % 3
        some = list[str]()
        size = 0
        for place in generator.permutation(len(texts)).tolist():
            some.append(str(texts[place]))
            size += len(some[-1])
            if size > _BASE_CHARACTERS:
                break
        tokenizer: Any = Tokenizer(models.BPE())
        if self._lower:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = _byte_level(generator, self._split)
        trainer = trainers.BpeTrainer(
            vocab_size=LARGEST + 256,
            initial_alphabet=_letters,
            min_frequency=2,
            show_progress=False,
        )
        tokenizer.train_from_iterator(some, trainer)
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        self._merges: list[tuple[str, str]] = [(first, second) for first, second in merges]

    def cut_off(self, size: int, generator: np.random.Generator) -> Vocabulary:
        """The BPE of the first ``size`` merges."""
        merges = self._merges[:size]
        vocabulary = {letter: number for number, letter in enumerate(_letters)}
        for first, second in merges:
            vocabulary.setdefault(first + second, len(vocabulary))
        tokenizer: Any = Tokenizer(models.BPE(vocabulary, merges))
        if self._lower:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = _byte_level(generator, self._split)
        return Vocabulary(tokenizer, [_bytes_of_letters(text) for text in vocabulary], -1)


def _byte_level(generator: np.random.Generator, split: int) -> Any:
    """Splits as GPT-2 does, with a blank put in front of a text or not, or with digits by three, or one by one."""
    if split == 0:
        return pre_tokenizers.ByteLevel(add_prefix_space=bool(generator.random() < 0.4))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split != 1)
    first: Any = (
        pre_tokenizers.Split(Regex(_THREE_DIGITS), "isolated")
        if split == 1
        else pre_tokenizers.Digits(individual_digits=True)
    )
    return pre_tokenizers.Sequence([first, plain])


def _byte_unigram(texts: list[str], scores: np.ndarray[Any, Any], lower: bool, split: Any) -> Vocabulary:
    """A Unigram on letters that stand for bytes."""
    low = float(scores.min(initial=0.0)) - 2
    pieces = [("".join(_letters[byte] for byte in text.encode()), text.encode()) for text in texts]
    listed = [(_UNKNOWN, low - 20), *((letter, low) for letter in _letters)]
    known = set(_letters)
    kept = [number for number, (text, _) in enumerate(pieces) if text not in known]
    listed += [(pieces[number][0], float(scores[number])) for number in kept]
    tokenizer: Any = Tokenizer(models.Unigram(listed, 0, False))
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    tokens = [b"", *(bytes([byte]) for byte in range(256)), *(pieces[number][1] for number in kept)]
    return Vocabulary(tokenizer, tokens, 0)


def _marked_unigram(texts: list[str], scores: np.ndarray[Any, Any], parts: _Parts) -> Vocabulary:
    """A Unigram on text with a sign for the blank, and bytes for what has no piece."""
    low = float(scores.min(initial=0.0)) - 2
    singles = [BLANK, *parts.characters]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    listed = [
        (_UNKNOWN, low - 20),
        *((text, low - 10) for text in fallback),
        *((text, low) for text in singles),
    ]
    listed += [(text.replace(" ", BLANK), float(score)) for text, score in zip(texts, scores, strict=True)]
    tokenizer: Any = Tokenizer(models.Unigram(listed, 0, True))
    if parts.lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens = [
        b"",
        *(bytes([byte]) for byte in range(256)),
        b" ",
        *(text.encode() for text in parts.characters),
    ]
    return Vocabulary(tokenizer, tokens + [text.encode() for text in texts], 0)


_byte_of = {letter: byte for byte, letter in enumerate(_letters)}


def _bytes_of_letters(text: str) -> bytes:
    return bytes([_byte_of[letter] for letter in text])


def _bytes_of_wordpiece(text: str) -> bytes:
    """As ``ByteView`` has them: signs stand alone, other words begin with a blank."""
    if text.startswith("##") and len(text) > 2:
        return text[2:].encode()
    if text == _UNKNOWN:
        return b""
    return text.encode() if stands_alone(text) else b" " + text.encode()
