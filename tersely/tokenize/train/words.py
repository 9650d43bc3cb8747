"""Documents to the words that a vocabulary is trained on: GPT-2's pattern, or blank-separated chunks."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import regex
from numba import njit

from tersely.ragged import Ragged
from tersely.tokenize.protocol import Texts, as_bytes
from tersely.tokenize.words import WordRule, segment

Array: TypeAlias = np.ndarray[Any, Any]

LOOSE_PATTERN = (
    r"(?:'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}:]+)+"
    r"| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
"""Where a superword must end: at numbers, at colons, and at blanks other than one space."""

LONGEST_WORD = 1024
"""Longer words are cut into pieces of about this many bytes, so that no text can make training slow."""


class Split(StrEnum):
    """What a word is."""

    GPT2 = "gpt2"
    """A match of GPT-2's pattern."""
    LOOSE = "loose"
    """A match of ``LOOSE_PATTERN``: phrases that may become superwords."""
    BLANKS = "blanks"
    """What stands between spaces, tabs, line feeds and carriage returns: all that BERT takes for blanks in ASCII."""


def split_words(texts: Texts, split: Split) -> Ragged:
    """All words of all texts, one after another: rows of uint8, none much longer than ``LONGEST_WORD``."""
    if split is Split.BLANKS:
        return cut_long(_chunks(texts), LONGEST_WORD)
    if split is Split.GPT2:
        return cut_long(segment(texts, WordRule.GPT2).values, LONGEST_WORD)
    return cut_long(_phrases(texts), LONGEST_WORD)


def cut_long(words: Ragged, longest: int) -> Ragged:
    """The same bytes with long rows cut into pieces of ``longest`` bytes, or up to 3 more or less to keep UTF-8 whole."""
    if words.max_seqlen <= longest:
        return words
    cuts: list[Array] = [words.offsets]
    for row in np.flatnonzero(words.lengths > longest).tolist():
        start, end = int(words.offsets[row]), int(words.offsets[row + 1])
        places = np.arange(start + longest, end, longest)
        for _ in range(3):  # back to where a character begins
            places = places - (words.values[places] & 0xC0 == 0x80)
        cuts.append(places)
    return Ragged(words.values, np.unique(np.concatenate(cuts)))


def _phrases(texts: Texts) -> Ragged:
    pattern = regex.compile(LOOSE_PATTERN)
    lengths: list[int] = []
    documents = [bytes(text).decode("utf-8", "surrogateescape") for text in as_bytes(texts)]
    for text in documents:
        words = pattern.findall(text)
        if text.isascii():
            lengths.extend(map(len, words))
        else:
            lengths.extend(len(word.encode("utf-8", "surrogateescape")) for word in words)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    values = np.frombuffer("".join(documents).encode("utf-8", "surrogateescape"), np.uint8)
    return Ragged(values, offsets)


def _chunks(texts: Texts) -> Ragged:
    joined = np.frombuffer(b" ".join(as_bytes(texts)), np.uint8)
    offsets, kept = _between_blanks(joined)
    words = Ragged(joined[: offsets[-1]], offsets)
    return words.take(np.flatnonzero(kept)) if len(words) else words


@njit(cache=True, nogil=True)
def _between_blanks(content: Array) -> Any:
    """Offsets that part blank from other bytes, and for each row whether it is of other bytes."""
    offsets, kept = np.empty(len(content) + 2, np.int64), np.empty(len(content) + 1, np.bool_)
    rows, inside = 0, False
    offsets[0] = 0
    for place in range(len(content)):
        byte = content[place]
        blank = byte == 32 or byte == 9 or byte == 10 or byte == 13
        if place > 0 and blank == inside:
            kept[rows] = inside
            rows += 1
            offsets[rows] = place
        inside = not blank
    if len(content):
        kept[rows] = inside
        rows += 1
        offsets[rows] = len(content)
    return offsets[: rows + 1].copy(), kept[:rows].copy()
