"""Documents cut into pieces that fit a bin, and what that cutting loses.

capacity 4, document of 10 tokens:   split     [0:4] [4:8] [8:10]
                                     truncate  [0:4]           6 tokens lost
                                     drop                      1 document, 10 tokens lost
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import numba
import numpy as np


class Overflow(StrEnum):
    """What happens to a document that is longer than a bin."""

    SPLIT = "split"
    """Cut into pieces of ``capacity`` and a shorter last one; nothing is lost."""
    TRUNCATE = "truncate"
    """Only its first ``capacity`` tokens are kept."""
    DROP = "drop"
    """It is left out."""


class Pieces(NamedTuple):
    """Pieces in document order, each an int64 vector of shape ``(pieces,)``: ``document``, and its half-open token
    range ``start`` to ``stop``.
    """

    document: np.ndarray[Any, Any]
    start: np.ndarray[Any, Any]
    stop: np.ndarray[Any, Any]


class Cut(NamedTuple):
    """What cutting did, in documents and tokens; an empty document has no pieces."""

    pieces: int
    tokens: int
    empty_documents: int
    split_documents: int
    truncated_tokens: int
    dropped_documents: int
    dropped_tokens: int


def cut_lengths(
    lengths: np.ndarray[Any, Any], capacity: int, overflow: Overflow
) -> tuple[np.ndarray[Any, Any], Cut]:
    """Length of each piece, int32, and what was lost; ``capacity`` is below 2**31."""
    cut = Cut(*_count(lengths, capacity, overflow == Overflow.SPLIT, overflow == Overflow.DROP))
    if cut.pieces == len(lengths) and not (
        cut.split_documents or cut.truncated_tokens or cut.empty_documents
    ):
        return lengths.astype(np.int32, copy=False), cut
    out = np.empty(cut.pieces, np.int32)
    _fill_lengths(lengths, capacity, overflow == Overflow.SPLIT, overflow == Overflow.DROP, out)
    return out, cut


def cut_pieces(lengths: np.ndarray[Any, Any], capacity: int, overflow: Overflow, pieces: int) -> Pieces:
    """The pieces that ``cut_lengths`` measured."""
    document, start, stop = (np.empty(pieces, np.int64) for _ in range(3))
    _fill_pieces(
        lengths, capacity, overflow == Overflow.SPLIT, overflow == Overflow.DROP, document, start, stop
    )
    return Pieces(document, start, stop)


def chop(lengths: np.ndarray[Any, Any], capacity: int) -> tuple[Pieces, np.ndarray[Any, Any]]:
    """Concatenate and chop: pieces in order that fill every bin but the last, and the bins' offsets in them."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    edges = np.arange(0, total + capacity, capacity)
    edges[-1] = total
    marks = np.unique(np.concatenate([edges, ends, [0]]))
    first = marks[:-1]
    document = np.searchsorted(ends, first, "right")
    begin = (ends - lengths)[document] if len(document) else first
    offsets = np.searchsorted(first, edges)
    return Pieces(document, first - begin, marks[1:] - begin), offsets


@numba.njit(cache=True, nogil=True)
def _count(lengths: Any, capacity: int, split: bool, drop: bool) -> Any:
    pieces = tokens = empty = cut = lost = dropped = dropped_tokens = 0
    for length in lengths:
        if length <= capacity:
            if length == 0:
                empty += 1
            else:
                pieces += 1
                tokens += length
        elif split:
            pieces += (length - 1) // capacity + 1
            tokens += length
            cut += 1
        elif drop:
            dropped += 1
            dropped_tokens += length
        else:
            pieces += 1
            tokens += capacity
            lost += length - capacity
    return pieces, tokens, empty, cut, lost, dropped, dropped_tokens


@numba.njit(cache=True, nogil=True)
def _fill_lengths(lengths: Any, capacity: int, split: bool, drop: bool, out: Any) -> None:
    piece = 0
    for length in lengths:
        left = length
        if length > capacity and not split:
            left = 0 if drop else capacity
        while left > 0:
            out[piece] = min(left, capacity)
            left -= capacity
            piece += 1


@numba.njit(cache=True, nogil=True)
def _fill_pieces(
    lengths: Any, capacity: int, split: bool, drop: bool, document: Any, start: Any, stop: Any
) -> None:
    piece = 0
    for index in range(len(lengths)):
        end = np.int64(lengths[index])
        if end > capacity and not split:
            end = 0 if drop else capacity
        for begin in range(0, end, capacity):
            document[piece] = index
            start[piece] = begin
            stop[piece] = min(begin + capacity, end)
            piece += 1
