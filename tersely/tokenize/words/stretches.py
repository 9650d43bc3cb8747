"""Long documents in stretches that can be segmented apart, so that work on them stays in the cache, too.

A place is safe if every rule starts a word there, whatever comes before and after, and if what is on one side decides
nothing on the other. A blank after a character that is no white space is such a place, provided that SpaceByte's rule
does not take the byte before for a space as well: after an ASCII letter or digit, or a character beyond ASCII.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_LOOKED_AT = 1 << 10
"""Bytes in which a safe place is looked for at first; text has one every few words."""


def with_stretches(
    data: np.ndarray[Any, Any], documents: np.ndarray[Any, Any], most: int
) -> np.ndarray[Any, Any]:
    """``documents``, offsets, with safe places added in those of more than ``2 * most`` bytes: about every ``most``.

    A document without safe places stays whole.
    """
    places: list[int] = []
    for document in np.flatnonzero(np.diff(documents) > 2 * most).tolist():
        place, end = int(documents[document]) + most, int(documents[document + 1])
        size = _LOOKED_AT
        while place + most < end:
            found = _first_safe(data[place - 3 : min(place + size, end)])
            if found is None:
                place += size
                size = min(2 * size, most)
            else:
                places.append(place + found)
                place += found + most
                size = _LOOKED_AT
    if not places:
        return documents
    merged = np.concatenate([documents, np.array(places, np.int64)])
    merged.sort(kind="stable")
    return merged


def _first_safe(window: np.ndarray[Any, Any]) -> int | None:
    """The first safe place, counted from the fourth byte of ``window``."""
    blanks = np.flatnonzero((window[3:] == ord(" ")) & (window[2:-1] >= ord("0")))
    third, second, last = window[blanks], window[blanks + 1], window[blanks + 2]
    letter = ((last | 32) >= ord("a")) & ((last | 32) <= ord("z"))
    digit = last <= ord("9")
    # White space beyond ASCII: U+0085, U+00A0, U+1680, some in U+2000..207F, U+3000. Its neighbours do not matter.
    wide = ((last & 0xC0) == 0x80) & (second != 0xC2)
    wide &= ~((third >= 0xE1) & (third <= 0xE3) & ((second <= 0x81) | (second == 0x9A)))
    safe = np.flatnonzero(letter | digit | wide)
    return int(blanks[safe[0]]) if len(safe) else None
