"""Documents to words: the rules by name, and the way of a corpus through them, a chunk that stays in the cache at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from tersely.errors import UsageError, choose
from tersely.ragged import Ragged
from tersely.tokenize.bytes import ByteTokenizer
from tersely.tokenize.protocol import Texts, byte_rows

CHUNK_BYTES = 192 << 10
"""Documents are taken together up to this size, so that what the passes of a rule hand on stays in the cache."""


class WordRule(StrEnum):
    """Where words start."""

    GPT2 = "gpt2"
    """As the pattern of GPT-2 splits: letters, numbers or others, with one blank before them."""
    CL100K = "cl100k"
    """As the pattern of OpenAI's cl100k vocabulary splits: numbers in threes, newlines kept together."""
    SPACE = "space"
    """SpaceByte's rule, on bytes."""
    UNICODE = "unicode"
    """Unicode's default word boundaries, UAX #29."""


class Pieces(NamedTuple):
    """Words of limited length, and which of them go on with the word before."""

    words: Ragged
    """Documents -> pieces -> bytes."""
    continues: Ragged
    """Documents -> one bool for each piece: whether it continues the piece before."""


def segment(texts: Texts, rule: WordRule | str = WordRule.GPT2) -> Ragged:
    """The words of each text: a nested Ragged, documents -> words -> bytes (uint8).

    Every byte is in exactly one word, so the words of a document, joined, are the document; an empty one has none.
    Documents do not influence each other.

    Args:
        texts: strings (as UTF-8), bytes, or a Ragged of uint8, whose values are not copied. A byte that is not valid
            UTF-8 is a character of its own, neither letter nor number nor space: words are those of
            ``text.decode("utf-8", "surrogateescape")``.
        rule: where words start.

    Raises:
        TokenizeError: a string has a lone surrogate, or the texts are no documents.
        UsageError: there is no such rule.

    Costs time linear in the bytes, whatever they are, and 8 bytes of memory for each word.
    """
    rows = _rows(texts)
    starts = word_starts(rows.values, rows.offsets, choose(WordRule, rule))
    return nest(rows, starts)


def segment_pieces(
    texts: Texts, rule: WordRule | str = WordRule.GPT2, *, max_word_bytes: int | None = None
) -> Pieces:
    """The words of each text, those longer than ``max_word_bytes`` cut into pieces of at most that many bytes.

    Args:
        texts: as in ``segment``.
        rule: as in ``segment``.
        max_word_bytes: at least 4, because a valid UTF-8 character is never cut; ``None`` leaves words whole.

    Raises:
        TokenizeError: as in ``segment``.
        UsageError: as in ``segment``, or ``max_word_bytes`` is below 4.
    """
    check_max_word_bytes(max_word_bytes)
    rows = _rows(texts)
    starts = word_starts(rows.values, rows.offsets, choose(WordRule, rule))
    return cut(rows, rows.values, rows.offsets, starts, max_word_bytes)


def check_max_word_bytes(max_word_bytes: int | None) -> None:
    """Raises UsageError unless words can be cut to this size."""
    if max_word_bytes is not None and (type(max_word_bytes) is not int or max_word_bytes < 4):
        raise UsageError(
            f"max_word_bytes is {max_word_bytes!r}: a character has up to 4 bytes and is not cut, so allow 4 or more, an integer"
        )


def word_starts(
    data: np.ndarray[Any, Any], documents: np.ndarray[Any, Any], rule: WordRule
) -> np.ndarray[Any, Any]:
    """Where words start, and ``len(data)`` behind them: shape ``(words + 1,)``, int64.

    Args:
        data: shape ``(total,)``, uint8.
        documents: offsets of the documents in it, int64; a word ends where its document does.
        rule: where words start.
    """
    from tersely.tokenize.words.compact import append_positions
    from tersely.tokenize.words.stretches import with_stretches

    mark = _marker(rule)
    data = np.ascontiguousarray(data).view()
    data.flags.writeable = False  # compiled code is compiled once, for arrays that cannot be written
    documents = with_stretches(data, documents, CHUNK_BYTES)
    starts, count = np.empty(0, np.int64), 0
    flags = np.empty(0, np.uint8)
    for first, last in _chunks(documents):
        begin, end = int(documents[first]), int(documents[last])
        size = end - begin
        if len(flags) < size + 8:
            flags = np.empty(size + 8, np.uint8)
        mark(data[begin:end], documents[first : last + 1] - begin, flags)
        flags[size : size + 8] = 0
        if len(starts) < count + size + 8:
            expected = int(count / max(begin, 1) * 1.1 * len(data))
            starts = _grown(starts, count, max(count + size + 8, expected + CHUNK_BYTES))
        count = int(append_positions(flags, size, begin, starts, count))
    starts = starts if len(starts) else np.empty(1, np.int64)
    starts[count] = len(data)
    return starts[: count + 1]


def nest(rows: Ragged, starts: np.ndarray[Any, Any]) -> Ragged:
    """``rows`` with the words that start at ``starts`` (its last one is the end) between the rows and their values."""
    return Ragged(Ragged(rows.values, starts), np.searchsorted(starts, rows.offsets))


def cut(
    rows: Ragged,
    data: np.ndarray[Any, Any],
    documents: np.ndarray[Any, Any],
    starts: np.ndarray[Any, Any],
    max_word_bytes: int | None,
) -> Pieces:
    """``nest(rows, starts)`` with long words cut; ``data`` and ``documents`` are what ``starts`` was made from."""
    continues = np.zeros(len(starts) - 1, np.bool_)
    if max_word_bytes is not None and int(np.diff(starts).max(initial=0)) > max_word_bytes:
        from tersely.tokenize.words.pieces import cut_words

        starts, continues = cut_words(np.ascontiguousarray(data), documents, starts, max_word_bytes)
    words = nest(rows, starts)
    return Pieces(words, Ragged(continues, words.offsets))


def _rows(texts: Texts) -> Ragged:
    if isinstance(texts, Ragged):
        return byte_rows(texts)
    return ByteTokenizer("hnet").encode(texts)  # the layout in which an id is the byte itself


def _marker(rule: WordRule) -> Callable[..., None]:
    """The function that flags where the words of a rule start; imported late, because it loads numba."""
    from tersely.tokenize.words import cl100k, gpt2, space, unicode

    return {
        WordRule.GPT2: gpt2.mark,
        WordRule.CL100K: cl100k.mark,
        WordRule.SPACE: space.mark,
        WordRule.UNICODE: unicode.mark,
    }[rule]


def _chunks(documents: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """Ranges of documents of up to ``CHUNK_BYTES`` together, at least one of them not empty; a longer one is alone."""
    first, count = 0, len(documents) - 1
    while first < count and documents[first] < documents[-1]:
        begin = documents[first]
        last = int(np.searchsorted(documents, begin + CHUNK_BYTES, "right")) - 1
        if documents[last] == begin:
            last = int(np.searchsorted(documents, begin, "right"))
        yield first, last
        first = last


def _grown(array: np.ndarray[Any, Any], count: int, size: int) -> np.ndarray[Any, Any]:
    grown = np.empty(size, array.dtype)
    grown[:count] = array[:count]
    return grown
