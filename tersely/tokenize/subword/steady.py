"""Characters of which it is not known that a library splits text at them as we do: classes change with Unicode's versions.

A library has the tables of the Unicode version it was built with. A character that has had its class (letter, number, white
space, other) since Unicode 3.2 has it in all of them; of later ones the library at hand is asked. The rest are few: in a
document with one of them the library itself splits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from tersely.tokenize.words.tables import ClassTable, kinds, paged

_ALWAYS = [
    0x17F,  # the long s: an s only to patterns that ignore case, and not to all of those
    0xFFFF,  # no character: it opens the spellings under which special tokens are hidden
]
_ASKED = 0x10000  # of the characters above, hardly any is in use
_OLD = [(0x3400, 0x4DB5), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x20000, 0x2A6D6)]
"""Ideographs and Hangul of Unicode 3.2, which need not be looked up one by one."""

_FILLERS = {"L": "aa", "O": "!!"}


def doubtful_characters(starts: Callable[[str], Iterable[int]] | None, composed: bool = False) -> ClassTable:
    """The table in which such characters have the class 1, all others 0.

    Args:
        starts: the places at which the library splits a text, 0 among them; None if it cannot be asked.
        composed: whether those are to be among them, too, of which Python does not know how NFC composes them.
    """
    classes, changed = _all_changed()
    doubtful = changed.copy()
    for kind, filler in _FILLERS.items():
        if starts is None:
            break
        asked = np.flatnonzero(doubtful[:_ASKED] & (classes[:_ASKED] == kind))
        # A text of one class is one piece; a character of another one starts a piece of its own.
        found = set(starts("".join(filler + chr(point) for point in asked)))
        places = range(len(filler), 3 * len(asked), 3)
        doubtful[asked] = [place in found for place in places]
    doubtful[_ALWAYS] = True
    if composed:
        doubtful[_unknown_to_python()] = True
    return paged(doubtful.astype(np.uint8))


@cache
def _all_changed() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The class of each code point, and whether it is another one than in Unicode 3.2 or none yet."""
    names, codes, _ = kinds()
    classes = np.array(["S" if "space" in name else _class(name) for name in names])[codes]
    doubtful = np.array([name.startswith("Cn") for name in names])[codes]
    looked_at = (classes != "O") | (np.arange(len(classes)) < _ASKED)
    for first, last in _OLD:
        looked_at[first : last + 1] = False
    looked_at[: ord(" ")] = False  # control characters are white space, too
    points = np.flatnonzero(looked_at)
    then = np.array(list(map(unicodedata.ucd_3_2_0.category, map(chr, points.tolist())))).astype("U1")
    then[~np.isin(then, ["L", "N", "Z"])] = "O"
    then[then == "Z"] = "S"
    doubtful[points] |= then != classes[points]
    return classes, doubtful


def _unknown_to_python() -> np.ndarray[Any, Any]:
    """The assigned code points that are newer than ``unicodedata``."""
    names, codes, _ = kinds()
    assigned = np.array([not name.startswith("Cn") for name in names])[codes]
    for first, last in _OLD:
        assigned[first : last + 1] = False
    points = np.flatnonzero(assigned)
    return points[np.array([unicodedata.category(chr(point)) == "Cn" for point in points.tolist()])]


def _class(category: str) -> str:
    return {"L": "L", "N": "N", "Z": "S"}.get(category[0], "O")
