"""Text to words, compiled: checks UTF-8, finds which code points occur, and writes what they become.

Legend: ``text`` is uint8 of documents one after another, ``offsets`` int64 where they begin.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.tokenize.wordpiece.table import ALONE, BLOCK, MARK, PLACE


@numba.njit(cache=True, nogil=True)
def blocks_in(text: Any, offsets: Any, seen: Any) -> Any:
    """Marks in ``seen`` the blocks of code points that occur; the first document that is not UTF-8, or -1."""
    for document in range(offsets.size - 1):
        place = offsets[document]
        stop = offsets[document + 1]
        while place < stop:
            if text[place] < 0x80:
                seen[0] = True
                place += 1
                continue
            point, width = decode_at(text, place, stop)
            if width == 0:
                return document
            seen[point // BLOCK] = True
            place += width
    return -1


@numba.njit(cache=True, nogil=True)
def decode_at(text: Any, place: Any, stop: Any) -> Any:
    """The code point at ``place`` and its bytes; 0 bytes if it is not well-formed (Unicode Standard, table 3-7)."""
    lead = np.int64(text[place])
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0:
        width, least, point = 2, 0x80, lead & 0x1F
    elif lead < 0xF0:
        width, least, point = 3, 0x800, lead & 0x0F
    else:
        width, least, point = 4, 0x10000, lead & 0x07
    if lead < 0xC2 or lead > 0xF4 or place + width > stop:
        return lead, 0
    for i in range(1, width):
        byte = np.int64(text[place + i])
        if byte & 0xC0 != 0x80:
            return lead, 0
        point = point << 6 | byte & 0x3F
    if point < least or 0xD800 <= point < 0xE000 or point > 0x10FFFF:
        return lead, 0
    return point, width


@numba.njit(cache=True, nogil=True)
def normalize(table: Any, text: Any, start: Any, stop: Any, out: Any, source: Any) -> Any:
    """Writes what the characters from ``start`` to ``stop`` become, words parted by 0xFF.

    Args:
        table: the arrays of a ``Table`` that knows all of these characters, as a plain tuple.
        text: well-formed UTF-8.
        start: where the document begins in ``text``.
        stop: where it ends.
        out: shape at least ``(3 * (stop - start),)``, uint8; written.
        source: of the same shape, int64; written with the place in ``text`` of the character that each byte is
            from. Or of shape ``(0,)``, for none.

    Returns:
        How many bytes were written; -1 if marks meet whose order the library must find.
    """
    entries, pool, singles = table
    count = 0
    after_mark = False
    place = start
    while place < stop:
        single = singles[text[place]] if text[place] < 0x80 else np.uint8(0)
        if single:
            out[count] = single
            if source.size:
                source[count] = place
            count += 1
            place += 1
            after_mark = False
            continue
        point, width = decode_at(text, place, stop)
        entry = entries[point]
        length = entry & 0xFF
        if entry & ALONE or (entry & MARK and after_mark):
            return -1
        if length:
            after_mark = entry & MARK != 0
        for i in range(length):
            out[count + i] = pool[(entry >> PLACE) + i]
            if source.size:
                source[count + i] = place
        count += length
        place += width
    return count
