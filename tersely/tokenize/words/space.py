"""The words of SpaceByte: they start at bytes that look like space, found without decoding.

SpaceByte (arXiv 2404.14408, section 2) calls a byte spacelike unless it is an ASCII letter, a digit or a UTF-8
continuation byte, and runs its large blocks at each spacelike byte that does not follow another one. The byte where
the large blocks run opens a word here; so does the first byte of a document.

    " the cat, and"   ->   " the" " cat" ", and"
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


def mark(data: np.ndarray[Any, Any], documents: np.ndarray[Any, Any], flags: np.ndarray[Any, Any]) -> None:
    """Sets ``flags[i]``, uint8, to whether a word starts at byte ``i`` of ``data``; ``documents`` are offsets."""
    _mark_spacelike(data, flags)
    flags[documents[:-1]] = 1


@numba.njit(cache=True, nogil=True)
def _plain(byte: Any) -> Any:
    """1 if ``byte`` is a letter, a digit or a continuation, else 0."""
    letter = np.uint8(np.uint8((byte | np.uint8(32)) - np.uint8(97)) < np.uint8(26))
    digit = np.uint8(np.uint8(byte - np.uint8(48)) < np.uint8(10))
    return letter | digit | np.uint8((byte & np.uint8(0xC0)) == np.uint8(0x80))


@numba.njit(cache=True, nogil=True)
def _mark_spacelike(data: Any, flags: Any) -> None:
    before, here, out = data[:-1], data[1:], flags[1:]
    for i in range(before.size):
        out[i] = _plain(before[i]) & ~_plain(here[i]) & np.uint8(1)
