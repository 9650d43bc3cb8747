"""The walk of the encoder: a step in the table for each byte, and one more that ends each window.

It goes through several pieces of the documents in turn (pieces.py). Nobody knows where a window begins at a cut, but all
that decides the ids from a place on is the place: two walks that once end a window at the same place go on alike, and
they soon do. So a piece is begun some bytes early; if the piece before it then ends elsewhere, it is done again.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.pieces import cut_rows
from tersely.compress.equal_info.table import BASE, LABEL, NO_BYTE, STEP, STEP_BITS

LANES = 8
"""Pieces that are worked on at a time: found by trying."""

PIECE = 1 << 14
"""The fewest bytes of a piece of a long document."""

_EARLY = 256  # bytes by which a piece begins before its cut


@numba.njit(cache=True, nogil=True)
def encode_rows(
    cells: Any, roots: Any, follow: Any, text: Any, offsets: Any, end_of_text: Any, ids: Any, lengths: Any
) -> Any:
    """The ids of documents; no window reaches over the end of one.

    Args:
        cells: of the table, shape ``(size,)``, uint64.
        roots: shape ``(C,)``, int64.
        follow: shape ``(257, 256)``, uint16: the class behind two bytes.
        text: shape ``(bytes,)``, uint8.
        offsets: shape ``(documents + 1,)``, int64.
        end_of_text: whether the id 0 opens each row, and whether it closes it.
        ids: shape of at least ``(bytes + 2 * documents,)``; written from its start.
        lengths: shape ``(documents,)``, int64; written: ids of each document.

    Returns:
        How many ids there are.
    """
    starts, stops, rows = cut_rows(offsets, PIECE, LANES)
    begun, ended, counts = np.zeros((3, starts.size), np.int64)
    _walk(cells, roots, follow, text, offsets, starts, stops, rows, True, ids, begun, ended, counts)
    for piece in range(1, starts.size):
        if rows[piece] == rows[piece - 1] and begun[piece] != ended[piece - 1]:
            only = slice(piece, piece + 1)
            starts[piece] = ended[piece - 1]
            _walk(
                cells, roots, follow, text, offsets, starts[only], stops[only], rows[only], False, ids,
                begun[only], ended[only], counts[only],
            )  # fmt: skip
    return _join(starts, rows, counts, offsets[0], end_of_text, ids, lengths)


@numba.njit(cache=True, nogil=True)
def _join(starts: Any, rows: Any, counts: Any, first: int, end_of_text: Any, ids: Any, lengths: Any) -> Any:
    """Moves the ids of pieces together, with those that open and close rows."""
    lengths[:] = 0
    count = 0
    for piece in range(starts.size):
        row, before = rows[piece], count
        start = _room(starts[piece], first, row)
        opens = end_of_text[0] and (piece == 0 or rows[piece - 1] != row)
        if opens:
            count += 1
        for i in range(counts[piece]):
            ids[count + i] = ids[start + i]
        if opens:
            ids[before] = 0
        count += counts[piece]
        if end_of_text[1] and (piece + 1 == starts.size or rows[piece + 1] != row):
            ids[count] = 0
            count += 1
        lengths[row] += count - before
    return count


@numba.njit(cache=True, nogil=True)
def _room(start: int, first: int, row: int) -> int:
    """Where the ids of a piece have room: one a byte, and two for each row up to its own."""
    return start - first + 2 * row + 1


@numba.njit(cache=True, nogil=True)
def _walk(
    cells: Any, roots: Any, follow: Any, text: Any, offsets: Any, starts: Any, stops: Any, rows: Any, early: bool,
    ids: Any, begun: Any, ended: Any, counts: Any,
) -> None:  # fmt: skip
    """The ids of pieces: of windows that begin in them. Where the first begins, where the last ends, and how many."""
    # Of each lane: the place in the text, where its window begins, where its document begins and ends, where the piece
    # starts and stops, which it is, and the place of the next id; then the node.
    place, begin, head, tail, start, stop, piece, at = lanes = np.zeros((8, LANES), np.int64)
    base, number = nodes = np.zeros((2, LANES), np.uint64)
    taken, used = 0, 0
    while used < LANES and taken < starts.size:
        _take(offsets, starts, stops, rows, taken, early, roots, follow, text, lanes[:, used], nodes[:, used])
        taken += 1
        used += 1
    while used:
        for lane in range(used):
            i = place[lane]
            if i < tail[lane]:
                byte = np.uint64(text[np.uint64(i)])
                cell = cells[base[lane] + byte]
                if cell & np.uint64(LABEL) == byte:
                    number[lane] += (cell >> np.uint64(STEP)) & np.uint64((1 << STEP_BITS) - 1)
                    base[lane] = cell >> np.uint64(BASE)
                    place[lane] = i + 1
                    continue
            if i > begin[lane]:
                if begin[lane] >= start[lane]:
                    ids[np.uint64(at[lane])] = number[lane]
                    at[lane] += 1
                elif i >= start[lane]:
                    begun[piece[lane]] = i
                base[lane], number[lane], begin[lane] = _root(roots, follow, text, head[lane], i), 0, i
            if i >= stop[lane]:
                which = piece[lane]
                ended[which], counts[which] = i, at[lane] - _room(start[lane], offsets[0], rows[which])
                if taken == starts.size:
                    used -= 1
                    lanes[:, lane], nodes[:, lane] = lanes[:, used], nodes[:, used]
                    break
                _take(
                    offsets,
                    starts,
                    stops,
                    rows,
                    taken,
                    early,
                    roots,
                    follow,
                    text,
                    lanes[:, lane],
                    nodes[:, lane],
                )
                taken += 1


@numba.njit(cache=True, nogil=True)
def _root(roots: Any, follow: Any, text: Any, head: int, place: int) -> Any:
    """The root for a window at ``place`` of a document that begins at ``head``."""
    if place == head:
        return np.uint64(roots[0])
    before = np.int64(text[place - 2]) if place > head + 1 else NO_BYTE
    return np.uint64(roots[follow[before, text[place - 1]]])


@numba.njit(cache=True, nogil=True)
def _take(
    offsets: Any, starts: Any, stops: Any, rows: Any, piece: int, early: bool, roots: Any, follow: Any, text: Any,
    lane: Any, node: Any,
) -> None:  # fmt: skip
    """Puts a piece on a lane."""
    head, tail = offsets[rows[piece]], offsets[rows[piece] + 1]
    place = max(head, starts[piece] - _EARLY) if early else starts[piece]
    lane[0], lane[1], lane[2], lane[3] = place, place, head, tail
    lane[4], lane[5], lane[6] = starts[piece], stops[piece], piece
    lane[7] = _room(starts[piece], offsets[0], rows[piece])
    node[0], node[1] = _root(roots, follow, text, head, place), 0
