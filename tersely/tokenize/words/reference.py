"""Slow, plain twins of the rules, which the tests compare with: patterns for ``regex``, and UAX #29 word for word."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

from tersely.tokenize.words.segmentation import WordRule
from tersely.tokenize.words.tables import kinds
from tersely.tokenize.words.unicode import (
    IGNORED,
    INSIDE_NUMBERS,
    INSIDE_WORDS,
    JOINED_BY_CONNECTORS,
    LETTERS,
    NEWLINES,
    word_break,
)

_Text = TypeVar("_Text", str, bytes)

PATTERNS = {
    WordRule.GPT2: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    WordRule.CL100K: (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
}
"""The published patterns, for the ``regex`` package."""


def words(text: bytes, rule: WordRule) -> list[bytes]:
    """The words of one document."""
    if rule == WordRule.SPACE:
        return _between(text, [i for i in range(len(text)) if _opens_space_word(text, i)])
    string = text.decode("utf-8", "surrogateescape")
    if rule == WordRule.UNICODE:
        found = _between(string, unicode_starts(string))
    else:
        import regex

        found = regex.findall(PATTERNS[rule], string)
    return [word.encode("utf-8", "surrogateescape") for word in found]


def pieces(words: list[bytes], most: int) -> list[tuple[bytes, bool]]:
    """Words cut to at most ``most`` bytes, character by character, and whether each continues the one before."""
    found: list[tuple[bytes, bool]] = []
    for word in words:
        piece, continues = b"", False
        for character in word.decode("utf-8", "surrogateescape"):
            raw = character.encode("utf-8", "surrogateescape")
            if len(piece) + len(raw) > most:
                found.append((piece, continues))
                piece, continues = b"", True
            piece += raw
        found.append((piece, continues))
    return found


def unicode_starts(text: str) -> list[int]:
    """Where words start under UAX #29, as indices of characters: each rule on both sides of each place.

    Quadratic in runs of ignored characters.
    """
    names, codes, _ = kinds()
    values = [word_break(names[codes[ord(character)]]) for character in text]
    return [i for i in range(len(text)) if _is_boundary(values, i)]


def _is_boundary(values: list[tuple[str, bool]], place: int) -> bool:
    if place == 0:
        return True  # WB1
    (left, _), (right, pictographic) = values[place - 1], values[place]
    if left == "CR" and right == "LF":
        return False  # WB3
    if left in NEWLINES or right in NEWLINES:
        return True  # WB3a, WB3b
    if left == "ZWJ" and pictographic:
        return False  # WB3c
    if left == right == "WSegSpace":
        return False  # WB3d
    if right in IGNORED:
        return False  # WB4
    before = [value for i, (value, _) in enumerate(values[:place]) if _counts(values, i)]
    after = [value for i, (value, _) in enumerate(values[place:], place) if _counts(values, i)]
    return not _joined(before, after)


def _counts(values: list[tuple[str, bool]], i: int) -> bool:
    """Whether WB4 leaves character ``i`` standing: it is not ignored, or has nothing to be ignored after."""
    return values[i][0] not in IGNORED or i == 0 or values[i - 1][0] in NEWLINES


def _joined(before: list[str], after: list[str]) -> bool:
    """WB5 to WB16, on what WB4 leaves: whether no word starts between ``before`` and ``after``."""
    (left2, left), (right, right2) = ["", *before][-2:], [*after, ""][:2]
    indicators = next(
        (n for n, value in enumerate(before[::-1]) if value != "Regional_Indicator"), len(before)
    )
    return any(
        (
            left in LETTERS and right in LETTERS,  # WB5
            left in LETTERS and right in INSIDE_WORDS and right2 in LETTERS,  # WB6
            left2 in LETTERS and left in INSIDE_WORDS and right in LETTERS,  # WB7
            left == "Hebrew_Letter" and right == "Single_Quote",  # WB7a
            left == right2 == "Hebrew_Letter" and right == "Double_Quote",  # WB7b
            left2 == right == "Hebrew_Letter" and left == "Double_Quote",  # WB7c
            left == "Numeric" and right == "Numeric",  # WB8
            left in LETTERS and right == "Numeric",  # WB9
            left == "Numeric" and right in LETTERS,  # WB10
            left2 == right == "Numeric" and left in INSIDE_NUMBERS,  # WB11
            left == right2 == "Numeric" and right in INSIDE_NUMBERS,  # WB12
            left == right == "Katakana",  # WB13
            left in JOINED_BY_CONNECTORS | {"ExtendNumLet"} and right == "ExtendNumLet",  # WB13a
            left == "ExtendNumLet" and right in JOINED_BY_CONNECTORS,  # WB13b
            left == right == "Regional_Indicator" and indicators % 2 == 1,  # WB15, WB16
        )
    )


def _opens_space_word(text: bytes, i: int) -> bool:
    return i == 0 or (_is_spacelike(text[i]) and not _is_spacelike(text[i - 1]))


def _is_spacelike(byte: int) -> bool:
    return not (chr(byte).isascii() and chr(byte).isalnum()) and not 0x80 <= byte < 0xC0


def _between(text: _Text, starts: list[int]) -> list[_Text]:
    return [text[a:b] for a, b in pairwise([*starts, len(text)])]
