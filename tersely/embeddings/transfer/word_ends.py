"""Where a word ends in two tokenizations of the same text: there a model of either has read the same.

text        The  foxes  rest
old pieces  The| fox|es| rest|      ends 3, 7, 9, 14
new pieces  The| foxes| re|st|      ends 3, 9, 12, 14
word ends   3, 9, 14: the old states at 0, 2, 3 stand for the new ones at 0, 1, 3
"""

from __future__ import annotations

Span = tuple[int, int]


def word_ends(text: str, old: list[Span], new: list[Span]) -> list[tuple[int, int]]:
    """Pairs of places, in the old and in the new ids, that end a word of the text.

    Args:
        text: what was cut.
        old: for each old id the characters that it stands for, half open; an empty range for special tokens.
        new: the same for each new id.
    """
    before, after = _last_at(old), _last_at(new)
    shared = sorted(before.keys() & after.keys())
    return [(before[end], after[end]) for end in shared if not _inside_word(text, end)]


def _last_at(spans: list[Span]) -> dict[int, int]:
    """The last id that ends at each character: the last byte, where a character is several ids."""
    return {stop: place for place, (start, stop) in enumerate(spans) if stop > start}


def _inside_word(text: str, end: int) -> bool:
    return end < len(text) and text[end - 1].isalnum() and text[end].isalnum()
