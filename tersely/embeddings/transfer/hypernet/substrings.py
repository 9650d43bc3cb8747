"""The parts of words that a vocabulary may be made of, and how often they occur."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LONGEST = 16
"""Characters of a part, the blank in front included."""

_CLOSED = 0.8


@dataclass(frozen=True)
class Substrings:
    """Parts of words.

    Attributes:
        texts: K of them, the blank in front of a word included.
        counts: float64, ``(K,)``: how often each occurs, times its characters.
    """

    texts: list[str]
    counts: np.ndarray[Any, Any]


def find_substrings(words: Mapping[str, int], keep: int) -> Substrings:
    """The ``keep`` parts that cover most characters, best first; single characters and those that occur once are left out.

    A part that is hardly ever seen but within a longer one, as " transformatio", is left out: no trainer would make it.
    """
    found = Counter[str]()
    for word, count in words.items():
        size = len(word)
        for start in range(size):
            for end in range(start + 1, min(size, start + LONGEST + 1) + 1):
                found[word[start:end]] += count
    within = set[str]()
    for text, count in found.items():
        for part in (text[1:], text[:-1]):
            if count > _CLOSED * found[part]:
                within.add(part)
    scores = [
        (count * len(text), text)
        for text, count in found.items()
        if 1 < len(text) <= LONGEST and count > 1 and text not in within
    ]
    scores.sort(reverse=True)
    return Substrings(
        [text for _, text in scores[:keep]], np.array([score for score, _ in scores[:keep]], np.float64)
    )
