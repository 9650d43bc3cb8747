"""The two passes of the decoder: the record of each id, then the bytes.

The class of a window is known only when the window before it is, so a row is a chain in which each look-up waits for the
one before. The first pass does nothing but that, for several pieces of the rows in turn (pieces.py). The second pass writes the strings, which wait for nothing.

Long rows are cut into pieces too. Nobody knows the class at a cut, but classes that differ soon meet: a piece begins some
ids early with any class, and if the piece before it then ends in another one, its records are looked up again from the
cut until they meet.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.code.cells import LONGEST_WINDOW
from tersely.compress.equal_info.pieces import cut_rows
from tersely.compress.equal_info.records import CLASS, CLASS_BITS, HEAD, INLINE, TEXT, Records
from tersely.compress.equal_info.words import load_word, store_word
from tersely.ragged import Ragged

LANES = 16
"""Pieces that are worked on at a time: found by trying."""

PIECE = 4096
"""The fewest ids of a piece of a long row."""

_EARLY = 256  # ids by which a piece begins before its cut
_BLOCK = 1 << 16  # ids for which there is room between the passes; more if a row is longer


def decode_rows(records: Records, bits: int, ids: Ragged) -> list[bytes]:
    """The bytes of each row; ids are uint32, within bounds, and one after another in memory."""
    aims = np.arange(ids.offsets[0] + _BLOCK, ids.offsets[-1], _BLOCK)
    cuts = np.unique(np.concatenate([[0], np.searchsorted(ids.offsets, aims), [len(ids)]])).tolist()
    found, text = np.empty(0, np.uint64), np.empty(0, np.uint8)  # used again: fresh memory is slow
    texts: list[bytes] = []
    for first, last in zip(cuts[:-1], cuts[1:], strict=True):
        rows = ids[first:last]
        if len(found) < 2 * len(rows.values):
            found = np.empty(2 * len(rows.values), np.uint64)
        most = look_up(records.words, bits, rows.values, rows.offsets, found)
        if len(text) < most + LONGEST_WINDOW:
            text = np.empty(most + LONGEST_WINDOW, np.uint8)
        ends = np.empty(len(rows) + 1, np.int64)
        write(found, rows.offsets, records.long_strings, text, ends)
        view, bounds = text.data, ends.tolist()
        texts += [bytes(view[start:stop]) for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    return texts


def decode_sizes(records: Records, bits: int, ids: Ragged) -> Any:
    """The bytes of each id, shape ``(T,)``, int64."""
    found = np.empty(2 * len(ids.values), np.uint64)
    look_up(records.words, bits, ids.values, ids.offsets, found)
    return found[::2].astype(np.int64) & 255


@numba.njit(cache=True, nogil=True)
def look_up(words: Any, bits: int, ids: Any, offsets: Any, found: Any) -> Any:
    """The first pass: the record of each id.

    Args:
        words: of the code, shape ``(2 * C << bits,)``, uint64.
        bits: of a window.
        ids: shape ``(T,)``, uint32.
        offsets: shape ``(rows + 1,)``, int64.
        found: shape of at least ``(2 * T,)``, uint64; written.

    Returns:
        Bytes that are enough for all strings.
    """
    if words.size == 2 << bits:
        return _look_up_alone(words, ids, found)
    starts, stops, rows = cut_rows(offsets, PIECE, LANES)
    opened = np.zeros(starts.size, np.uint64)  # the class at the start of each piece
    closed = np.zeros(starts.size, np.uint64)  # and at its end
    most = _look_up_pieces(words, bits, ids, starts, stops, rows, found, opened, closed)
    for piece in range(1, starts.size):
        if rows[piece] != rows[piece - 1] or opened[piece] == closed[piece - 1]:
            continue
        kind = closed[piece - 1]
        for i in range(starts[piece], stops[piece]):
            place = np.uint64(2) * ((kind << np.uint64(bits)) + np.uint64(ids[i]))
            kind = _following(words[place])
            met = kind == _following(found[2 * i])
            found[2 * i], found[2 * i + 1] = words[place], words[place + np.uint64(1)]
            most += words[place] & np.uint64(255)
            if met:
                break
        else:
            closed[piece] = kind
    return most


@numba.njit(cache=True, nogil=True)
def _look_up_alone(words: Any, ids: Any, found: Any) -> Any:
    """The records of ids, of which there is one class: nothing waits."""
    most = np.uint64(0)
    for i in range(np.uint64(ids.size)):
        place, at = np.uint64(2) * np.uint64(ids[i]), np.uint64(2) * i
        found[at], found[at + np.uint64(1)] = words[place], words[place + np.uint64(1)]
        most += words[place] & np.uint64(255)
    return most


@numba.njit(cache=True, nogil=True)
def _look_up_pieces(
    words: Any, bits: int, ids: Any, starts: Any, stops: Any, rows: Any, found: Any, opened: Any, closed: Any
) -> Any:
    """The records of all pieces, ``LANES`` at a time; those that go on are begun early, with class 0."""
    at, start, stop, piece = lanes = np.zeros((4, LANES), np.int64)
    kind = np.zeros(LANES, np.uint64)
    taken, used, most = 0, 0, np.uint64(0)
    while True:
        lane = 0
        while lane < LANES:  # full lanes again
            if lane < used and at[lane] < stop[lane]:
                lane += 1
                continue
            if lane < used:
                closed[piece[lane]] = kind[lane]
            if taken < starts.size:
                _take(starts, stops, rows, taken, lanes[:, lane])
                kind[lane] = 0
                taken += 1
                used = max(used, lane + 1)
            elif lane < used:
                used -= 1
                lanes[:, lane], kind[lane] = lanes[:, used], kind[used]
            else:
                break
        if used == 0:
            return most
        steps = (stop[:used] - at[:used]).min()
        for _ in range(steps):
            for lane in range(np.uint64(used)):
                i = at[lane]
                place = np.uint64(2) * ((kind[lane] << np.uint64(bits)) + np.uint64(ids[np.uint64(i)]))
                first = words[place]
                if i >= start[lane]:
                    if i == start[lane]:
                        opened[piece[lane]] = kind[lane]
                    found[np.uint64(2 * i)] = first
                    found[np.uint64(2 * i + 1)] = words[place + np.uint64(1)]
                    most += first & np.uint64(255)
                kind[lane] = _following(first)
                at[lane] = i + 1


@numba.njit(cache=True, nogil=True)
def _take(starts: Any, stops: Any, rows: Any, piece: int, lane: Any) -> None:
    """Puts a piece on a lane."""
    goes_on = piece > 0 and rows[piece] == rows[piece - 1]
    lane[0] = starts[piece] - (_EARLY if goes_on else 0)
    lane[1], lane[2], lane[3] = starts[piece], stops[piece], piece


@numba.njit(cache=True, nogil=True)
def _following(first: Any) -> Any:
    """The class of the next window."""
    return (first >> np.uint64(CLASS)) & np.uint64((1 << CLASS_BITS) - 1)


@numba.njit(cache=True, nogil=True)
def write(found: Any, offsets: Any, long_strings: Any, text: Any, ends: Any) -> None:
    """The second pass: the strings of records, one behind another.

    Args:
        found: shape of at least ``(2 * T,)``, uint64.
        offsets: shape ``(rows + 1,)``, int64: the ids of each row.
        long_strings: of the code.
        text: shape of at least ``(bytes + LONGEST_WINDOW,)``, uint8; written.
        ends: shape ``(rows + 1,)``, int64; written: the bytes of each row.
    """
    place = np.uint64(0)
    ends[0] = 0
    for row in range(offsets.size - 1):
        for i in range(np.uint64(offsets[row]), np.uint64(offsets[row + 1])):
            first, second = found[np.uint64(2) * i], found[np.uint64(2) * i + np.uint64(1)]
            length = first & np.uint64(255)
            if length <= np.uint64(INLINE):
                store_word(text, place, first >> np.uint64(TEXT))
                store_word(text, place + np.uint64(HEAD), second)
            else:
                for step in range(np.uint64(0), length, np.uint64(8)):
                    store_word(text, place + step, load_word(long_strings, second + step))
            place += length
        ends[row + 1] = place
