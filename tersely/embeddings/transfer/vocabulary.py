"""The bytes that every token of a vocabulary stands for, whatever its family spells them like.

    spelled in                   a token that begins a word      one that continues it     of one byte
    byte-level BPE               (U+0120)the                     ing                       (U+010A)
    SentencePiece, BPE, Unigram  (U+2581)the                     ing                       <0x0A>
    WordPiece                    the                             ##ing
    here                         b" the"                         b"ing"                    one byte

Two tokens are the same if their bytes are. Their spellings do not tell: the byte 0xE9 of a byte-level vocabulary is spelled
as SentencePiece spells a whole letter.

WordPiece writes no blanks. Its signs and its CJK characters, which it cuts off wherever they stand, are given none.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tersely.errors import TokenizeError
from tersely.tokenize.bytelevel import bytes_of
from tersely.tokenize.subword.decoders import is_byte

BLANK = "\u2581"
"""What stands for a blank in vocabularies of SentencePiece's kind."""

_CJK = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2EBEF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]


class Family(StrEnum):
    """How a vocabulary spells bytes."""

    BYTE_LEVEL = "byte-level"
    """A character for each byte."""
    SENTENCEPIECE = "sentencepiece"
    """Text with a sign for the blank, and perhaps pieces for single bytes."""
    WORDPIECE = "wordpiece"
    """Text without blanks, and a prefix for what continues a word."""


@dataclass(frozen=True)
class ByteView:
    """A vocabulary as bytes.

    Attributes:
        family: how it spells them.
        spellings: ``V`` of them; "" for an id that is not given.
        tokens: ``V`` of them; b"" for a special token and for an id that is not given.
        special: bool, ``(V,)``: tokens that stand for no text.
        single_byte: bool, ``(V,)``: the pieces of byte fallback.
        unknown: the id for what the vocabulary cannot spell, if it has one.
    """

    family: Family
    spellings: list[str]
    tokens: list[bytes]
    special: np.ndarray[Any, Any]
    single_byte: np.ndarray[Any, Any]
    unknown: int | None

    @classmethod
    def of(cls, tokenizer: Any) -> ByteView:
        """The view of a fast tokenizer of transformers, or of a ``tokenizers.Tokenizer``.

        Raises:
            TokenizeError: it is no fast tokenizer, or its tokens cannot be told as bytes.
        """
        library = backend(tokenizer)
        content: dict[str, Any] = json.loads(library.to_str())
        family, model = _family(content), content["model"]
        vocabulary: dict[str, int] = library.get_vocab(with_added_tokens=True)
        size = max(vocabulary.values(), default=-1) + 1
        if not size:
            raise TokenizeError("the vocabulary is empty: give a tokenizer that was trained")
        added = {str(token["content"]): bool(token["special"]) for token in content["added_tokens"]}
        unknown = _unknown(model, vocabulary)
        spellings, tokens = [""] * size, [b""] * size
        special, single = np.ones(size, bool), np.zeros(size, bool)
        for spelling, number in vocabulary.items():
            spellings[number] = spelling
            special[number] = added.get(spelling, False) or number == unknown
            if special[number]:
                continue
            single[number] = family is Family.SENTENCEPIECE and is_byte(spelling)
            tokens[number] = spelling.encode() if spelling in added else _bytes(spelling, family, model)
        return cls(family, spellings, tokens, special, single, unknown)

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def begins(self) -> np.ndarray[Any, Any]:
        """bool, ``(V,)``: whether a token begins a word (with a blank, or a sign) rather than continuing one."""
        return np.array([bool(token) and not continues(token) for token in self.tokens], bool)

    @cached_property
    def ids(self) -> dict[bytes, list[int]]:
        """The ids of the same bytes, pieces of byte fallback last."""
        found = dict[bytes, list[int]]()
        for number in np.argsort(self.single_byte, kind="stable").tolist():
            if self.tokens[number]:
                found.setdefault(self.tokens[number], []).append(number)
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the ids of text: two vocabularies that have the same rows for it have the same."""
        found = sha256()
        for number, token in enumerate(self.tokens):
            if token and not self.special[number]:
                found.update(f"{number} {len(token)} ".encode() + token)
        return found.hexdigest()[:32]

    def same(self, token: bytes, spelling: str, single_byte: bool) -> int:
        """The id that stands for these bytes, -1 if there is none: where there are several, that of the same spelling, or of
        the same kind.
        """
        ids = self.ids.get(token, [])
        alike = [number for number in ids if self.spellings[number] == spelling]
        alike = alike or [number for number in ids if self.single_byte[number] == single_byte]
        return next(iter(alike or ids), -1)


def backend(tokenizer: Any) -> Tokenizer:
    """The ``tokenizers.Tokenizer`` in a fast tokenizer of transformers.

    Raises:
        TokenizeError: there is none.
    """
    library = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(library, Tokenizer):
        raise TokenizeError(
            f"{type(tokenizer).__name__} is no fast tokenizer: load it with AutoTokenizer, or convert it to a tokenizer.json"
        )
    return library


def continues(token: bytes) -> bool:
    """Whether bytes go on with a word: they start with a letter, a digit, a mark, or in the midst of a character."""
    return _in_word(token.decode("utf-8", "replace")[:1])


def goes_on(token: bytes) -> bool:
    """Whether a word can go on behind bytes: they end with a letter, a digit, a mark, or in the midst of a character."""
    return _in_word(token.decode("utf-8", "replace")[-1:])


def _in_word(character: str) -> bool:
    return (
        character == "\ufffd" or character.isalnum() or unicodedata.category(character or " ").startswith("M")
    )


def _family(content: dict[str, Any]) -> Family:
    model = content["model"]
    if model["type"] == "WordPiece":
        return Family.WORDPIECE
    if model["type"] not in ("BPE", "Unigram"):
        raise TokenizeError(f"the tokens of {model['type']} are no pieces: give BPE, Unigram or WordPiece")
    if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
        raise TokenizeError(
            "the BPE marks the ends or the insides of words, which only WordPiece is read with: give a BPE that marks blanks"
        )
    parts = {str(part["type"]) for name in ("pre_tokenizer", "decoder") for part in _parts(content[name])}
    return Family.BYTE_LEVEL if "ByteLevel" in parts else Family.SENTENCEPIECE


def _parts(step: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A step of the pipeline, and those that it is a sequence of."""
    if step:
        yield step
        for name in ("pretokenizers", "decoders"):
            for part in step.get(name, ()):
                yield from _parts(part)


def _unknown(model: dict[str, Any], vocabulary: dict[str, int]) -> int | None:
    if model["type"] == "Unigram":
        return model.get("unk_id")
    return vocabulary.get(model.get("unk_token") or "")


def _bytes(spelling: str, family: Family, model: dict[str, Any]) -> bytes:
    if family is Family.BYTE_LEVEL:
        return bytes_of(spelling)
    if family is Family.SENTENCEPIECE:
        return bytes([int(spelling[3:5], 16)]) if is_byte(spelling) else spelling.replace(BLANK, " ").encode()
    prefix = model["continuing_subword_prefix"]
    if spelling.startswith(prefix) and len(spelling) > len(prefix):
        return spelling[len(prefix) :].encode()
    return spelling.encode() if stands_alone(spelling) else b" " + spelling.encode()


def stands_alone(piece: str) -> bool:
    """Whether BERT's rules cut the character off on both sides."""
    if len(piece) != 1:
        return False
    sign = piece.isascii() and not piece.isalnum()
    chinese = any(first <= ord(piece) <= last for first, last in _CJK)
    return sign or chinese or unicodedata.category(piece).startswith("P")
