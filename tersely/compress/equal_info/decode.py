"""The strings of all ids as one array of 8-byte records, and the two passes of the decoder over it.

    a record, uint64:   length << 60  |  class of the next window << 48  |  up to 6 bytes of the string, the first lowest
                        15    << 60  |  class                  << 48  |  length << 40  |  where it is in ``long_strings``

The class of a window is known only when the window before it is, so a row is a chain in which each look-up waits for the
one before. The first pass does nothing but that, for ``LANES`` pieces of the rows in turn, so that as many look-ups are on
their way at a time. The second pass writes the strings, which wait for nothing.

Long rows are cut into pieces too. Nobody knows the class at a cut, but classes that differ soon meet: a piece begins a few
ids early with any class, and if the piece before it then ends in another one, its records are looked up again from the
cut until they meet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from tersely.compress.equal_info.code.cells import LONGEST_WINDOW
from tersely.compress.equal_info.table import BASE, LABEL, STEP, STEP_BITS, Table, following_classes, last_bytes
from tersely.errors import TokenizeError

MOST_CLASSES = 1 << 12
"""Classes that a record can name."""

LANES = 8
"""Pieces that are looked up at a time."""

_PIECE = 1024  # ids of a piece of a long row
_EARLY = 32  # ids by which a piece begins before its cut
_INLINE = 6
_LENGTH, _CLASS = 60, 48


class Records(NamedTuple):
    """What each id stands for.

    Attributes:
        records: shape ``(C * 2**bits,)``, uint64: those of class 0, then of class 1, and so on.
        long_strings: shape ``(bytes,)``, uint8; longer than it need be by ``LONGEST_WINDOW``.
    """

    records: Any
    long_strings: Any


def expand(table: Table, bits: int) -> Records:
    """The records of a table.

    Raises:
        TokenizeError: a trie of the table has more or fewer nodes than ``2**bits``, or a window that is too long.
    """
    starts, edges = _edges(table.cells)
    records = np.empty(len(table.roots) << bits, np.uint64)
    follow, last = following_classes(table.classes), last_bytes(table.classes)
    text, used = np.empty(1 << 16, np.uint8), 0
    for kind in range(len(table.roots)):
        part = records[kind << bits : (kind + 1) << bits]
        done, text, used = _expand_class(table.cells, table.roots[kind], starts, edges, follow, last[kind], part, text, used)
        if done != 1 << bits:
            raise TokenizeError("the table of the code is damaged: its tries do not fill their ids; train it again")
    return Records(records, text[: used + LONGEST_WINDOW].copy())


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
    cells: Any, root: int, starts: Any, edges: Any, follow: Any, last: int, records: Any, text: Any, used: int
) -> Any:
    """Writes the records of one trie in the order of ids; how many there were, and the text of long strings."""
    path = np.zeros(LONGEST_WINDOW, np.uint8)
    numbers, held, at, end = np.zeros((4, LONGEST_WINDOW + 1), np.int64)
    depth, count = 0, 1
    records[0] = 0
    at[0], end[0] = starts[root], starts[root + 1]
    while depth >= 0:
        if at[depth] == end[depth]:
            depth -= 1
            continue
        cell = cells[edges[at[depth]]]
        at[depth] += 1
        number = numbers[depth] + np.int64((cell >> np.uint64(STEP)) & np.uint64((1 << STEP_BITS) - 1))
        if depth == LONGEST_WINDOW or count == records.size or number != count:
            return -1, text, used
        path[depth] = np.uint8(cell & np.uint64(255))
        depth += 1
        numbers[depth] = number
        if depth > _INLINE:
            if used + 2 * LONGEST_WINDOW > text.size:
                text = np.concatenate((text, np.empty(text.size, np.uint8)))
            if depth > _INLINE + 1 and held[depth - 1] + depth - 1 == used:  # what ends the text so far begins this
                held[depth] = held[depth - 1]
                text[used] = path[depth - 1]
            else:
                held[depth] = used
                text[used : used + depth] = path[:depth]
            used = held[depth] + depth
        before = np.int64(path[depth - 2]) if depth > 1 else last
        records[count] = _record(path, depth, np.int64(follow[before, path[depth - 1]]), held[depth])
        count += 1
        base = np.int64(cell >> np.uint64(BASE))
        at[depth], end[depth] = starts[base], starts[base + 1]
    return count, text, used


@numba.njit(cache=True, nogil=True)
def _record(path: Any, length: int, kind: int, place: int) -> Any:
    record = np.uint64(kind) << np.uint64(_CLASS)
    if length > _INLINE:
        return record | (np.uint64(15) << np.uint64(_LENGTH)) | (np.uint64(length) << np.uint64(40)) | np.uint64(place)
    for i in range(length):
        record |= np.uint64(path[i]) << np.uint64(8 * i)
    return record | (np.uint64(length) << np.uint64(_LENGTH))


@numba.njit(cache=True, nogil=True)
def look_up(records: Any, bits: int, ids: Any, offsets: Any, found: Any, sizes: Any) -> None:
    """The first pass: the record of each id.

    Args:
        records: of the code.
        bits: of a window.
        ids: shape ``(T,)``.
        offsets: shape ``(rows + 1,)``, int64.
        found: shape ``(T,)``, uint64; written.
        sizes: shape ``(rows,)``, int64; written: the bytes of each row.
    """
    for row in range(offsets.size - 1):
        kind, size = np.uint64(0), np.uint64(0)
        for i in range(offsets[row], offsets[row + 1]):
            record = records[(kind << np.uint64(bits)) + np.uint64(ids[i])]
            found[i] = record
            size += _size(record)
            kind = (record >> np.uint64(_CLASS)) & np.uint64(MOST_CLASSES - 1)
        sizes[row] = size


@numba.njit(cache=True, nogil=True)
def _size(record: Any) -> Any:
    """The bytes of a record's string."""
    length = record >> np.uint64(_LENGTH)
    return length if length <= np.uint64(_INLINE) else (record >> np.uint64(40)) & np.uint64(127)


@numba.njit(cache=True, nogil=True)
def write(found: Any, long_strings: Any, text: Any) -> None:
    """The second pass: the strings of records, one behind another.

    Args:
        found: shape ``(T,)``, uint64.
        long_strings: of the code.
        text: shape ``(bytes + LONGEST_WINDOW,)``, uint8; written.
    """
    place = np.uint64(0)
    for record in found:
        length = record >> np.uint64(_LENGTH)
        if length <= np.uint64(_INLINE):
            for i in range(_INLINE):
                text[place + np.uint64(i)] = np.uint8((record >> np.uint64(8 * i)) & np.uint64(255))
        else:
            length = (record >> np.uint64(40)) & np.uint64(127)
            start = record & np.uint64((1 << 40) - 1)
            for i in range(np.uint64(0), length):
                text[place + np.uint64(i)] = long_strings[start + np.uint64(i)]
        place += length


@numba.njit(cache=True, nogil=True)
def sizes_of(found: Any) -> Any:
    """The bytes of the string of each record; shape ``(T,)``, int64."""
    sizes = np.empty(found.size, np.int64)
    for i in range(found.size):
        sizes[i] = _size(found[i])
    return sizes
