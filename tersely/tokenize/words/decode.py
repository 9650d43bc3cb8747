"""UTF-8 to the class of each character, written to all its bytes; what is not UTF-8 counts as Python would escape it.

A byte that no valid character holds (a stray continuation, a lead without its rest, an overlong form, a surrogate)
is a character of its own, the lone surrogate ``0xDC00 + byte``, as ``bytes.decode("utf-8", "surrogateescape")`` has
it. Well-formed sequences: the Unicode Standard, section 3.9, table 3-7.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

WIDE = 0x40
"""What a pass over ASCII writes as the class of a byte above 127: still to be decoded. No class has this bit."""
_EIGHT_WIDE = np.uint64(0x4040404040404040)


@numba.njit(cache=True, nogil=True)
def decode_character(data: Any, i: int, end: int) -> Any:
    """The character that starts at byte ``i``, which is above 127: its code point times 8, plus its width in bytes.

    ``end`` is where the document ends; no character crosses it.
    """
    lead = np.int64(data[i])
    escaped = (0xDC00 + lead) * 8 + 1
    if lead < 0xC2 or i + 1 >= end:
        return escaped
    second = np.int64(data[i + 1]) ^ 0x80  # below 64 where the byte is a continuation, as are the next two
    if second > 63:
        return escaped
    if lead < 0xE0:
        return ((lead & 0x1F) << 6 | second) * 8 + 2
    if i + 2 >= end:
        return escaped
    third = np.int64(data[i + 2]) ^ 0x80
    if third > 63:
        return escaped
    if lead < 0xF0:
        point = (lead & 0x0F) << 12 | second << 6 | third
        return point * 8 + 3 if point >= 0x800 and point >> 11 != 0x1B else escaped
    if i + 3 >= end:
        return escaped
    fourth = np.int64(data[i + 3]) ^ 0x80
    point = (lead - 0xF0) << 18 | second << 12 | third << 6 | fourth
    return point * 8 + 4 if fourth <= 63 and 0x10000 <= point <= 0x10FFFF else escaped


@numba.njit(cache=True, nogil=True)
def decode_wide(data: Any, documents: Any, pages: Any, classes: Any, tail: Any, out: Any) -> None:
    """Fills in the classes of the characters beyond ASCII, which ``out`` marks as ``WIDE``.

    Args:
        data: shape ``(n,)``, uint8.
        documents: offsets of the documents in it, int64.
        pages: of the ``ClassTable``.
        classes: of the ``ClassTable``.
        tail: shape ``(256,)``, uint8: for each class, what the bytes after a character's first one get.
        out: at least ``n`` rounded up to a multiple of 8, uint8; the ASCII part is filled already.
    """
    eight = out[: (data.size + 7) // 8 * 8].view(np.uint64)
    document, end, i = 0, 0, 0
    while i < data.size:
        lead = np.int64(data[i])
        if lead < 0x80:
            clean = i & 7 == 0 and not eight[i >> 3] & _EIGHT_WIDE
            i += 8 if clean else 1
            continue
        while end <= i:
            document += 1
            end = documents[document]
        # The two common widths on their own, without the code point: nearly twice as fast as the general way below.
        if 0xC2 <= lead < 0xE0 and i + 1 < end:
            second = np.int64(data[i + 1]) ^ 0x80
            if second < 64:
                kind = classes[pages[lead & 31], second]
                out[i], out[i + 1] = kind, tail[kind]
                i += 2
                continue
        elif 0xE0 <= lead < 0xF0 and i + 2 < end:
            second, third = np.int64(data[i + 1]) ^ 0x80, np.int64(data[i + 2]) ^ 0x80
            page = (lead & 15) << 6 | second
            if (second | third) < 64 and page >= 32 and page >> 5 != 0x1B:
                kind = classes[pages[page], third]
                out[i], out[i + 1], out[i + 2] = kind, tail[kind], tail[kind]
                i += 3
                continue
        character = decode_character(data, i, end)
        point, width = character >> 3, character & 7
        kind = classes[pages[point >> 6], point & 63]
        out[i] = kind
        for j in range(i + 1, i + width):
            out[j] = tail[kind]
        i += width
