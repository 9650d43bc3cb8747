"""Long documents in parts: where a text can be cut so that its ids are those of the parts, one after another.

A library that keeps 100 bytes for each token of a document needs 2 GB for one of 20 MB, and one thread does it all. A cut
between two words is exact if no piece of the vocabulary has a space after a letter and the rules look at one word at a time.
The first is read off the vocabulary, the second tried on a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tersely.ragged import Ragged

PART = 1 << 18
"""Characters of a part, at least."""

_CUT = re.compile("[A-Za-z] (?=[A-Za-z])")
_SPANNING = re.compile("[A-Za-z](?:\u0120|\u2581| )")
_TRIAL = (
    "The quick Brown fox isn't here; it's HE who'll say so. I am x = f(a, b) at 10 km or 3rd place\n next line of a text "
    "with caf\u00e9 au lait  two spaces and a tab\there s t r e d ll ve m the end of the story a b c d"
)


class Cutter:
    """Cuts long texts between words.

    Args:
        keeps_space: whether the space between the words stays at the front of the second part; else it falls away, since
            the vocabulary puts one before every text.
    """

    def __init__(self, keeps_space: bool) -> None:
        self._keeps_space = keeps_space

    def cut(self, text: str, part: int) -> list[str]:
        """Parts of at least ``part`` characters; a text without a place to cut stays whole."""
        parts: list[str] = []
        start = 0
        while len(text) - start > 2 * part and (found := _CUT.search(text, start + part)):
            parts.append(text[start : found.start() + 1])
            start = found.start() + 1 if self._keeps_space else found.end()
        return [*parts, text[start:]]


def find_cutter(vocabulary: Iterable[str], encode: Callable[[list[str]], Ragged]) -> Cutter | None:
    """The cutter that is exact for a vocabulary, or None if there is none."""
    if any(_SPANNING.search(token) for token in vocabulary):
        return None
    whole = encode([_TRIAL]).values.tolist()
    for cutter in (Cutter(keeps_space=True), Cutter(keeps_space=False)):
        sizes = (1, 7, 20)
        if all(encode(cutter.cut(_TRIAL, size)).values.tolist() == whole for size in sizes):
            return cutter
    return None


def encode_in_parts(texts: list[str], cutter: Cutter | None, encode: Callable[[list[str]], Ragged]) -> Ragged:
    """``encode(texts)``, the long ones of which are cut."""
    if cutter is None or all(len(text) <= 2 * PART for text in texts):
        return encode(texts)
    parts = [cutter.cut(text, PART) for text in texts]
    bounds = [0]
    for pieces in parts:
        bounds.append(bounds[-1] + len(pieces))
    rows = encode([piece for pieces in parts for piece in pieces])
    return Ragged(rows.values, rows.offsets[bounds])
