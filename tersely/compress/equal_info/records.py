"""The strings of all ids of a code as one array of 16-byte records, so that one read gives all there is to know of an id.

first word    length  |  class of the next window << 8  |  5 bytes of the string << 24, the first lowest
second word   the next 8 bytes of the string; of a string of more than 13, where it is in ``long_strings``
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from tersely.compress.equal_info.code.cells import LONGEST_WINDOW
from tersely.compress.equal_info.table import (
    BASE,
    LABEL,
    STEP,
    STEP_BITS,
    Table,
    following_classes,
    last_bytes,
)
from tersely.errors import TokenizeError

CLASS = 8
"""How far a first word is shifted right to give the class, of which there are ``CLASS_BITS``."""
CLASS_BITS = 16
TEXT = 24
"""How far a first word is shifted right to give the first bytes of the string, of which there are ``HEAD``."""
HEAD = 5
INLINE = HEAD + 8
"""Bytes of the longest string that is in its record."""


class Records(NamedTuple):
    """What each id stands for.

    Attributes:
        words: shape ``(2 * C << bits,)``, uint64: the records of class 0 by id, then those of class 1, and so on.
        long_strings: shape ``(bytes,)``, uint8; longer than it need be by ``LONGEST_WINDOW``.
    """

    words: Any
    long_strings: Any


def expand(table: Table, bits: int) -> Records:
    """The records of a table.

    Raises:
        TokenizeError: a trie of the table has more or fewer nodes than ``2**bits``, or a window that is too long.
    """
    starts, edges = _edges(table.cells)
    words = np.empty((len(table.roots) << bits, 2), np.uint64)
    follow, last = following_classes(table.classes), last_bytes(table.classes)
    text, used = np.empty(1 << 12, np.uint8), 0
    for kind, root in enumerate(table.roots):
        part = words[kind << bits : (kind + 1) << bits]
        done, text, used = _expand_class(
            table.cells, root, starts, edges, follow, last[kind], part, text, used
        )
        if done != 1 << bits:
            raise TokenizeError(
                "the table of the code is damaged: its tries do not fill their ids; train it again"
            )
    return Records(words.reshape(-1), text[: used + LONGEST_WINDOW].copy())


def string_of(records: Records, place: int) -> bytes:
    """The string of one record."""
    first, second = records.words[2 * place : 2 * place + 2].tolist()
    length = first & 255
    if length > INLINE:
        return records.long_strings[second : second + length].tobytes()
    return ((first >> TEXT).to_bytes(HEAD, "little") + second.to_bytes(8, "little"))[:length]


@numba.njit(cache=True, nogil=True)
def _edges(cells: Any) -> Any:
    """The cells of the children of each base, as rows: where those of a base begin, and the places of the cells."""
    starts = np.zeros(cells.size + 2, np.int64)
    for place in range(cells.size):
        label = np.int64(cells[place] & np.uint64(LABEL))
        if label < 256:
            starts[place - label + 2] += 1
    for base in range(cells.size):
        starts[base + 2] += starts[base + 1]
    edges = np.empty(starts[-1], np.int64)
    for place in range(cells.size):
        label = np.int64(cells[place] & np.uint64(LABEL))
        if label < 256:
            base = place - label + 1
            edges[starts[base]] = place
            starts[base] += 1
    return starts, edges


@numba.njit(cache=True, nogil=True)
def _expand_class(
    cells: Any, root: int, starts: Any, edges: Any, follow: Any, last: int, words: Any, text: Any, used: int
) -> Any:
    """Writes the records of one trie in the order of ids; how many there were, and the text of long strings."""
    path = np.zeros(LONGEST_WINDOW, np.uint8)
    numbers, at, end = np.zeros((3, LONGEST_WINDOW + 1), np.int64)
    depth, count = 0, 1
    words[0] = 0
    at[0], end[0] = starts[root], starts[root + 1]
    while depth >= 0:
        if at[depth] == end[depth]:
            depth -= 1
            continue
        cell = cells[edges[at[depth]]]
        at[depth] += 1
        number = numbers[depth] + np.int64((cell >> np.uint64(STEP)) & np.uint64((1 << STEP_BITS) - 1))
        if depth == LONGEST_WINDOW or count == words.shape[0] or number != count:
            return -1, text, used
        path[depth] = np.uint8(cell & np.uint64(LABEL))
        before = np.int64(path[depth - 1]) if depth > 0 else last
        kind = np.uint64(follow[before, path[depth]])
        depth += 1
        numbers[depth] = number
        _put(words[count], path, depth, kind)
        if depth > INLINE:
            if used + 2 * LONGEST_WINDOW > text.size:
                text = np.concatenate((text, np.empty(text.size, np.uint8)))
            text[used : used + depth] = path[:depth]
            words[count, 1] = used
            used += depth
        count += 1
        base = np.int64(cell >> np.uint64(BASE))
        at[depth], end[depth] = starts[base], starts[base + 1]
    return count, text, used


@numba.njit(cache=True, nogil=True)
def _put(record: Any, path: Any, length: int, kind: Any) -> None:
    """Writes the record of a string that is not long, or the first word of one that is."""
    first, second = np.uint64(length) | (kind << np.uint64(CLASS)), np.uint64(0)
    for i in range(min(length, HEAD)):
        first |= np.uint64(path[i]) << np.uint64(TEXT + 8 * i)
    for i in range(HEAD, min(length, INLINE)):
        second |= np.uint64(path[i]) << np.uint64(8 * (i - HEAD))
    record[0], record[1] = first, second
