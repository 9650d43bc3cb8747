"""Any bytes as pieces of a tokenizer, where a word begins and where it goes on.

A tokenizer run on "ing" gives the pieces of a word *ing*. What a token b"ing" needs are the pieces that stand inside words:
``##ing``, or ``ing`` without the sign of a blank. So the steps of the tokenizer are run one by one, without the blank that its
first step may put in front, and WordPiece continues with its continuing pieces alone.

But behind a sign or on a new line a token has no blank and yet begins a word, which WordPiece spells like any other: *size* in
``(size`` and ``in_size``. A corpus says where a token mostly stands (``beginnings``); without one, those that start with a capital
are taken to begin words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from tersely.embeddings.transfer.vocabulary import BLANK, ByteView, Family, backend, continues, goes_on
from tersely.tokenize.bytelevel import byte_characters

_STRETCHES = re.compile("[\ud800-\udfff]|[^\ud800-\udfff]+")
_LONGEST_WORD = 1000  # characters that WordPiece cuts


class Decomposition:
    """The pieces of a tokenizer.

    Args:
        tokenizer: a fast tokenizer.
        view: its vocabulary.
    """

    def __init__(self, tokenizer: Any, view: ByteView) -> None:
        self._view, self._library = view, _quiet(backend(tokenizer))
        self._letters = byte_characters()
        self._model: Any = self._library.model
        self._mark = self._letters[ord(" ")] if view.family is Family.BYTE_LEVEL else BLANK
        self._inside = self._continuing() if view.family is Family.WORDPIECE else self._model
        self._puts_blank = self._spelled(self._run("a", False)).startswith(b" ")

    def __call__(self, token: bytes, begins: bool | None = None) -> list[int]:
        """Ids whose bytes are those of ``token``, or what the normalizer makes of them; [] where there are none.

        What the vocabulary cannot spell is left out.

        Args:
            token: any bytes.
            begins: whether they begin a word if there is no blank, which matters to WordPiece; by default if with a capital.
        """
        try:
            text = token.decode()
        except UnicodeDecodeError:
            return self._broken(token)
        ways = [text, text[1:]] if text[:1] == " " else [text]
        if self._puts_blank:
            ways.reverse()
        begins = text[:1].isupper() if begins is None else begins
        glued = token[:1] != b" " and not (self._view.family is Family.WORDPIECE and begins)
        found = [self._run(way, glued) for way in ways]
        exact = next((ids for ids in found if self._spelled(ids) == token), None)
        return exact or found[0] or self._view.ids.get(token, [])[:1]

    def of_word(self, word: bytes) -> list[int]:
        """The pieces of a word of a text, with the blank before it if there is one.

        Without, it stands on a new line or behind a sign. Vocabularies that mark blanks have no mark there; for WordPiece it is
        a word like any other.
        """
        alone = self._view.family is Family.WORDPIECE and word[:1] != b" "
        return self(b" " + word if alone else word)

    def counts(self, words: Mapping[bytes, int]) -> np.ndarray[Any, Any]:
        """float64, ``(V,)``: how often each token occurs in words that occur so often."""
        ids, _, weights = self._occurrences(words)
        return np.bincount(ids, weights, len(self._view))

    def beginnings(self, words: Mapping[bytes, int]) -> np.ndarray[Any, Any]:
        """float64, ``(V,)``: the share of these occurrences that begin a word, for no letter, digit or mark stands before them;
        NaN for tokens that do not occur.
        """
        ids, before, weights = self._occurrences(words)
        within = np.array([goes_on(token) for token in self._view.tokens])
        begin = (before < 0) | ~within[before]
        begun, found = (np.bincount(ids, weight, len(within)) for weight in (weights * begin, weights))
        return np.divide(begun, found, out=np.full(len(within), np.nan), where=found > 0)

    def _occurrences(self, words: Mapping[bytes, int]) -> tuple[np.ndarray[Any, Any], ...]:
        """Of each token in each word its id, the id before it, -1 where there is none, and how often the word occurs."""
        cut = [(self.of_word(word), count) for word, count in words.items()]
        ids = np.array([number for found, _ in cut for number in found], np.int64)
        before = np.array([number for found, _ in cut for number in [-1, *found][: len(found)]], np.int64)
        return ids, before, np.repeat([count for _, count in cut], [len(found) for found, _ in cut])

    def cut(self, token: bytes) -> list[bytes]:
        """The bytes of each piece."""
        return [self._view.tokens[number] for number in self(token)]

    def _run(self, text: str, glued: bool) -> list[int]:
        """The ids of text; ``glued`` says that the tokenizer may put no blank in front."""
        library = self._library
        text = library.normalizer.normalize_str(text) if library.normalizer else text
        words = (
            [word for word, _ in library.pre_tokenizer.pre_tokenize_str(text)]
            if library.pre_tokenizer
            else [text]
        )
        if glued and words:
            words[0] = words[0].removeprefix(self._mark)
        models = [self._inside if glued and continues(text.encode()) else self._model] + [self._model] * len(
            words
        )
        pieces = [
            piece.id
            for word, model in zip(words, models, strict=False)
            if word
            for piece in model.tokenize(word)
        ]
        return [number for number in pieces if number != self._view.unknown]

    def _broken(self, token: bytes) -> list[int]:
        """Bytes that are not whole characters."""
        if self._view.family is Family.BYTE_LEVEL:
            return [
                piece.id for piece in self._model.tokenize("".join(self._letters[byte] for byte in token))
            ]
        ids = list[int]()
        for stretch in _STRETCHES.findall(token.decode("utf-8", "surrogateescape")):
            part = stretch.encode("utf-8", "surrogateescape")
            ids += self._view.ids.get(part, [])[:1] if "\ud800" <= stretch[0] <= "\udfff" else self(part)
        return ids

    def _spelled(self, ids: list[int]) -> bytes:
        return b"".join(self._view.tokens[number] for number in ids)

    def _continuing(self) -> WordPiece:
        """A model of the pieces that continue words, without their prefix."""
        prefix = self._model.continuing_subword_prefix
        vocabulary = {
            spelling.removeprefix(prefix): number
            for number, spelling in enumerate(self._view.spellings)
            if spelling.startswith(prefix) and len(spelling) > len(prefix)
        }
        unknown = self._model.unk_token
        vocabulary[unknown] = -1 if self._view.unknown is None else self._view.unknown
        return WordPiece(
            vocabulary,
            unk_token=unknown,
            max_input_chars_per_word=_LONGEST_WORD,
            continuing_subword_prefix="",
        )


def _quiet(library: Tokenizer) -> Tokenizer:
    """The same without what would make ids random."""
    model: Any = library.model
    if getattr(model, "dropout", None):
        library = Tokenizer.from_str(library.to_str())
        changed: Any = library.model
        changed.dropout = None
    return library
