r"""The words of GPT-2's pattern, by vector passes: where a word starts depends on three neighbouring characters only.

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

(Radford et al. 2019, the released encoder.) Read as a rule for each character:

    not a space   starts a word if its class (letter, number, other) is not that of the character before, unless that
                  one is the blank U+0020, which then starts the word itself
    a space       starts a word if the character before is no space, or the one after exists and is no space
    apostrophe    that starts a word and opens a contraction: the word ends with the contraction

So classes are one pass, flags a second one, and only apostrophes are looked at one by one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np

from tersely.tokenize.words.decode import WIDE, decode_wide
from tersely.tokenize.words.tables import ClassTable, class_table

_LETTER, _NUMBER, _SPACE, _BLANK, _APOSTROPHE, _REST, _EDGE = 1, 2, 4, 8, 16, 32, 128
_EIGHT_APOSTROPHES = np.uint64(0x1010101010101010)


def mark(data: np.ndarray[Any, Any], documents: np.ndarray[Any, Any], flags: np.ndarray[Any, Any]) -> None:
    """Sets ``flags[i]``, uint8, to whether a word starts at byte ``i`` of ``data``; ``documents`` are offsets."""
    table, tail = _table()
    classes = np.full(len(data) // 8 * 8 + 16, _EDGE, np.uint8)
    _classify_ascii(data, classes)
    decode_wide(data, documents, table.pages, table.classes, tail, classes)
    _mark_edges(documents, classes)
    _mark_neighbours(classes, len(data), flags)
    flags[0] = 1
    _mark_contractions(data, classes, flags)


@cache
def _table() -> tuple[ClassTable, np.ndarray[Any, Any]]:
    tail = np.arange(256, dtype=np.uint8)
    tail[_SPACE] = _SPACE | _REST
    return class_table(_class_of), tail


def _class_of(kind: str) -> int:
    return _SPACE if "space" in kind else {"L": _LETTER, "N": _NUMBER}.get(kind[0], 0)


@numba.njit(cache=True, nogil=True)
def _classify_ascii(data: Any, classes: Any) -> None:
    for i in range(data.size):
        byte = data[i]
        letter = np.uint8(np.uint8((byte | np.uint8(32)) - np.uint8(97)) < np.uint8(26))
        number = np.uint8(np.uint8(byte - np.uint8(48)) < np.uint8(10))
        blank = np.uint8(byte == np.uint8(32))
        space = blank | np.uint8(np.uint8(byte - np.uint8(9)) < np.uint8(5))
        apostrophe = np.uint8(byte == np.uint8(39))
        wide = np.uint8(byte >= np.uint8(128))
        classes[i] = letter | number << 1 | space << 2 | blank << 3 | apostrophe << 4 | wide * np.uint8(WIDE)


@numba.njit(cache=True, nogil=True)
def _mark_edges(documents: Any, classes: Any) -> None:
    for document in range(documents.size - 1):
        classes[documents[document]] |= np.uint8(_EDGE)


@numba.njit(cache=True, nogil=True)
def _mark_neighbours(classes: Any, size: int, flags: Any) -> None:
    """The rule of the module without its last line, in arithmetic on bits, for all bytes but the first."""
    count = size - 1
    one = np.uint8(1)
    before, here = classes[0:count], classes[1 : count + 1]
    after1, after2, after3 = classes[2 : count + 2], classes[3 : count + 3], classes[4 : count + 4]
    out = flags[1 : count + 1]
    for i in range(count):
        h, b, a1, a2, a3 = here[i], before[i], after1[i], after2[i], after3[i]
        # Whether the next character exists and is no space; the rest of a wide space is up to two bytes.
        word1, word2, word3 = ~(a1 >> 2 | a1 >> 7), ~(a2 >> 2 | a2 >> 7), ~(a3 >> 2 | a3 >> 7)
        word_next = word1 | (a1 >> 5 & (word2 | (a2 >> 5 & word3)))
        space = h >> 2 & ~(h >> 5) & (~(b >> 2) | word_next)
        differs = (h ^ b) & np.uint8(7)
        other = ~(h >> 2) & (differs | differs >> 1 | differs >> 2) & ~(b >> 3)
        out[i] = (h >> 7 | space | other) & one


@numba.njit(cache=True, nogil=True)
def _mark_contractions(data: Any, classes: Any, flags: Any) -> None:
    """Where an apostrophe that starts a word opens a contraction: the word goes on to its end, and no further."""
    eight = classes[: classes.size // 8 * 8].view(np.uint64)
    for j in range(eight.size):
        if eight[j] & _EIGHT_APOSTROPHES:
            for i in range(8 * j, min(8 * j + 8, data.size - 1)):
                if classes[i] & _APOSTROPHE and flags[i] and not classes[i + 1] & _EDGE:
                    length = _contraction(data, classes, i)
                    for k in range(1, length):
                        flags[i + k] = 0
                    if length and i + length < data.size:
                        flags[i + length] = 1


@numba.njit(cache=True, nogil=True)
def _contraction(data: Any, classes: Any, i: int) -> int:
    """How many bytes the contraction at the apostrophe ``i`` has, 0 if there is none."""
    first = data[i + 1]
    if first == ord("s") or first == ord("t") or first == ord("m") or first == ord("d"):
        return 2
    if i + 2 >= data.size or classes[i + 2] & _EDGE:
        return 0
    second = data[i + 2]
    if second == ord("e") and (first == ord("r") or first == ord("v")):
        return 3
    return 3 if first == ord("l") and second == ord("l") else 0
