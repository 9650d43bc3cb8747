"""The two passes of the decoder: the record of each id, then the bytes.

The class of a window is known only when the window before it is, so a row is a chain in which each look-up waits for the
one before. The first pass does nothing but that, for ``LANES`` pieces of the rows in turn, so that as many look-ups are on
their way at a time. The second pass writes the strings, which wait for nothing.

Long rows are cut into pieces too. Nobody knows the class at a cut, but classes that differ soon meet: a piece begins some
ids early with any class, and if the piece before it then ends in another one, its records are looked up again from the
cut until they meet.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.code.cells import LONGEST_WINDOW
from tersely.compress.equal_info.records import CLASS, CLASS_BITS, HEAD, INLINE, TEXT, Records
from tersely.compress.equal_info.words import load_word, store_word
from tersely.ragged import Ragged

LANES = 12
"""Pieces that are looked up at a time."""

PIECE = 4096
"""The fewest ids of a piece of a long row."""

_EARLY = 256  # ids by which a piece begins before its cut
_BLOCK = 1 << 16  # ids for which there is room between the passes; more if a row is longer


def decode_rows(records: Records, bits: int, ids: Ragged) -> list[bytes]:
    """The bytes of each row; ids are within bounds, their values one after another in memory."""
    aims = np.arange(ids.offsets[0] + _BLOCK, ids.offsets[-1], _BLOCK)
    cuts = np.unique(np.concatenate([[0], np.searchsorted(ids.offsets, aims), [len(ids)]])).tolist()
    found, text = np.empty((0, 2), np.uint64), np.empty(0, np.uint8)  # used again: fresh memory is slow
    texts: list[bytes] = []
    for first, last in zip(cuts[:-1], cuts[1:], strict=True):
        rows = ids[first:last]
        if len(found) < len(rows.values):
            found = np.empty((len(rows.values), 2), np.uint64)
        ends = np.empty(len(rows) + 1, np.int64)
        size = look_up(records.words, bits, rows.values, rows.offsets, found, ends)
        if len(text) < size + LONGEST_WINDOW:
            text = np.empty(size + LONGEST_WINDOW, np.uint8)
        write(found, len(rows.values), records.long_strings, text)
        view, bounds = text.data, ends.tolist()
        texts += [bytes(view[start:stop]) for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    return texts


def decode_sizes(records: Records, bits: int, ids: Ragged) -> Any:
    """The bytes of each id, shape ``(T,)``, int64."""
    found, ends = np.empty((len(ids.values), 2), np.uint64), np.empty(len(ids) + 1, np.int64)
    look_up(records.words, bits, ids.values, ids.offsets, found, ends)
    return found[:, 0].astype(np.int64) & 255


@numba.njit(cache=True, nogil=True)
def look_up(words: Any, bits: int, ids: Any, offsets: Any, found: Any, ends: Any) -> Any:
    """The first pass: the record of each id.

    Args:
        words: of the code, shape ``(C << bits, 2)``, uint64.
        bits: of a window.
        ids: shape ``(T,)``.
        offsets: shape ``(rows + 1,)``, int64.
        found: shape of at least ``(T, 2)``, uint64; written.
        ends: shape ``(rows + 1,)``, int64; written: where the bytes of each row will be.

    Returns:
        How many bytes there are.
    """
    starts, stops, goes_on = _pieces(offsets)
    opened = np.zeros(starts.size, np.uint64)  # the class at the start of each piece
    closed = np.zeros(starts.size, np.uint64)  # and at its end
    _look_up_pieces(words, bits, ids, starts, stops, goes_on, found, opened, closed)
    for piece in range(1, starts.size):
        if not goes_on[piece] or opened[piece] == closed[piece - 1]:
            continue
        kind = closed[piece - 1]
        for i in range(starts[piece], stops[piece]):
            record = words[(kind << np.uint64(bits)) + np.uint64(ids[i])]
            kind = _following(record[0])
            met = kind == _following(found[i, 0])
            found[i, 0], found[i, 1] = record[0], record[1]
            if met:
                break
        else:
            closed[piece] = kind
    total = np.uint64(0)
    ends[0] = 0
    for row in range(offsets.size - 1):
        for i in range(offsets[row], offsets[row + 1]):
            total += found[np.uint64(i), 0] & np.uint64(255)
        ends[row + 1] = total
    return np.int64(total)


@numba.njit(cache=True, nogil=True)
def _pieces(offsets: Any) -> Any:
    """Rows cut into pieces: where they start and stop, and whether they go on with the row of the piece before."""
    length = max(PIECE, (offsets[-1] - offsets[0]) // (4 * LANES))
    count = 0
    for row in range(offsets.size - 1):
        count += -(-(offsets[row + 1] - offsets[row]) // length)
    starts, stops = np.empty((2, count), np.int64)
    goes_on = np.empty(count, np.bool_)
    count = 0
    for row in range(offsets.size - 1):
        for start in range(offsets[row], offsets[row + 1], length):
            starts[count], stops[count] = start, min(start + length, offsets[row + 1])
            goes_on[count] = start > offsets[row]
            count += 1
    return starts, stops, goes_on


@numba.njit(cache=True, nogil=True)
def _look_up_pieces(
    words: Any,
    bits: int,
    ids: Any,
    starts: Any,
    stops: Any,
    goes_on: Any,
    found: Any,
    opened: Any,
    closed: Any,
) -> None:
    """The records of all pieces, ``LANES`` at a time; those that go on are begun early, with class 0."""
    at, start, stop, piece = np.zeros((4, LANES), np.int64)
    kind = np.zeros(LANES, np.uint64)
    taken, lanes = 0, 0
    while lanes < LANES and taken < starts.size:
        at[lanes] = starts[taken] - (_EARLY if goes_on[taken] else 0)
        start[lanes], stop[lanes], piece[lanes] = starts[taken], stops[taken], taken
        taken += 1
        lanes += 1
    while lanes:
        for lane in range(lanes):
            i = at[lane]
            if i == stop[lane]:
                closed[piece[lane]] = kind[lane]
                if taken == starts.size:
                    lanes -= 1
                    at[lane], start[lane], stop[lane], piece[lane] = (
                        at[lanes],
                        start[lanes],
                        stop[lanes],
                        piece[lanes],
                    )
                    kind[lane] = kind[lanes]
                    break
                i = starts[taken] - (_EARLY if goes_on[taken] else 0)
                start[lane], stop[lane], piece[lane], kind[lane] = starts[taken], stops[taken], taken, 0
                taken += 1
            place = (kind[lane] << np.uint64(bits)) + np.uint64(ids[np.uint64(i)])
            first = words[place, 0]
            if i >= start[lane]:
                if i == start[lane]:
                    opened[piece[lane]] = kind[lane]
                found[np.uint64(i), 0] = first
                found[np.uint64(i), 1] = words[place, 1]
            kind[lane] = _following(first)
            at[lane] = i + 1


@numba.njit(cache=True, nogil=True)
def _following(first: Any) -> Any:
    """The class of the next window."""
    return (first >> np.uint64(CLASS)) & np.uint64((1 << CLASS_BITS) - 1)


@numba.njit(cache=True, nogil=True)
def write(found: Any, count: int, long_strings: Any, text: Any) -> None:
    """The second pass: the strings of records, one behind another.

    Args:
        found: shape of at least ``(count, 2)``, uint64.
        count: of records.
        long_strings: of the code.
        text: shape of at least ``(bytes + LONGEST_WINDOW,)``, uint8; written.
    """
    place = np.uint64(0)
    for i in range(np.uint64(count)):
        length = found[i, 0] & np.uint64(255)
        if length <= np.uint64(INLINE):
            store_word(text, place, found[i, 0] >> np.uint64(TEXT))
            store_word(text, place + np.uint64(HEAD), found[i, 1])
        else:
            for step in range(np.uint64(0), length, np.uint64(8)):
                store_word(text, place + step, load_word(long_strings, found[i, 1] + step))
        place += length
