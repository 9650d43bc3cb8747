"""A corpus in short passages, most of them to learn from and some held out, their parts, and the words that occur in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

PASSAGE = 400
"""Characters of a passage, at most, but for what has no blanks."""
HELD_OUT = 10
"""One passage in so many is not learned from."""

SHORTEST, LONGEST = 40, 400
"""Characters of a part of a passage."""

_WORD = re.compile(r" ?\w+| ?[^\w\s]+")
_PASSAGE = re.compile(rf"\S.{{0,{PASSAGE - 2}}}(?!\S)|\S+", re.DOTALL)


def passages(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Pieces of the texts, cut at blanks, and whether each is held out."""
    number = 0
    for text in texts:
        for found in _PASSAGE.finditer(text):
            number += 1
            yield found.group(), number % HELD_OUT == 0


def part_of(passage: str, generator: np.random.Generator) -> str:
    """Some words in a row of a passage, of a length that is drawn evenly on a scale of logarithms.

    A model that is to be used on sentences must be trained on texts as short as these, besides longer ones.
    """
    size = int(np.exp(generator.uniform(np.log(SHORTEST), np.log(LONGEST))))
    if len(passage) <= size:
        return passage
    start = int(generator.integers(len(passage) - size + 1))
    start = passage.rfind(" ", 0, start) + 1
    end = passage.find(" ", start + size)
    return passage[start : end if end > 0 else len(passage)]


class Spread:
    """Some of many passages, from all over a stream of unknown length.

    Args:
        most: how many, at most.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held, self._each, self._seen = most, list[str](), 1, 0

    def add(self, passage: str) -> None:
        """Takes the next passage of the stream, or passes it over."""
        if self._seen % self._each == 0:
            self._held.append(passage)
        self._seen += 1
        if len(self._held) == 2 * self._most:
            self._held, self._each = self._held[::2], 2 * self._each

    def chosen(self) -> list[str]:
        """The passages, in the order of the stream."""
        number = min(len(self._held), self._most)
        return [self._held[place * len(self._held) // number] for place in range(number)]


def count_words(counts: Counter[bytes], passage: str) -> None:
    """Adds the words of a passage, each with the blank before it if there is one."""
    for found in _WORD.finditer(passage):
        counts[found.group().encode("utf-8", "replace")] += 1
