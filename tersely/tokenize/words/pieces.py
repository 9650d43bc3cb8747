"""Long words cut into pieces, never inside a character."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.tokenize.words.decode import decode_character

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def cut_words(
    data: np.ndarray[Any, Any], documents: np.ndarray[Any, Any], starts: np.ndarray[Any, Any], most: int
) -> Arrays:
    """Cuts words of more than ``most`` bytes, each piece as long as can be.

    Args:
        data: shape ``(total,)``, uint8.
        documents: offsets of the documents in it.
        starts: where words start, and ``total``; shape ``(words + 1,)``, int64.
        most: bytes in a piece, at least 4.

    Returns:
        Where pieces start, and ``total``: ``(pieces + 1,)``, int64. For each piece, whether it continues the one before.
    """
    data = data.view()
    data.flags.writeable = False
    # A piece that is not the last of its word has at least ``most - 3`` bytes.
    lengths = np.diff(starts)
    room = len(lengths) + int((lengths[lengths > most] // (most - 3)).sum())
    places = np.empty(room + 1, np.int64)
    continues = np.zeros(room, np.bool_)
    count = _cut(data, documents, starts, most, places, continues)
    return places[: count + 1], continues[:count]


@numba.njit(cache=True, nogil=True)
def _cut(data: Any, documents: Any, starts: Any, most: int, places: Any, continues: Any) -> Any:
    count, document = 0, 0
    for word in range(starts.size - 1):
        begin, end = starts[word], starts[word + 1]
        places[count] = begin
        count += 1
        if end - begin <= most:
            continue
        while documents[document + 1] <= begin:
            document += 1
        while end - begin > most:
            begin = _last_cut(data, begin, begin + most, documents[document + 1])
            places[count] = begin
            continues[count] = True
            count += 1
    places[count] = data.size
    return count


@numba.njit(cache=True, nogil=True)
def _last_cut(data: Any, begin: int, place: int, end: int) -> int:
    """The last place in ``begin + 1 .. place`` that is not inside a valid character of a document that ends at ``end``."""
    for lead in range(place - 1, max(begin, place - 4), -1):
        if data[lead] >= 0xC2:
            # No byte between it and ``place`` opens a character: it holds the one before ``place``, or nobody does.
            width = decode_character(data, lead, end) & 7
            return lead if lead + width > place else place
        if data[lead] < 0x80:
            return place
    return place
