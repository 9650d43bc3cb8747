"""The word before a byte, as far as a context shows it: a context of its own, whose number begins with a two.

Letters are lowered, and whatever stands before the word is the same to it: "The" behind a quote and "the" behind a space are
counted as one, ``0x2_20_74_68_65``. A context that does not show where its word begins has none.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.models.count import Counts

SPACE = 32
"""What every byte but letters becomes."""


def folded_bytes() -> Any:
    """For each byte its letter, lowered, or a space; shape ``(256,)``, uint8. Bytes of 128 and more count as letters."""
    folded = np.full(256, SPACE, np.uint8)
    folded[128:] = np.arange(128, 256)
    folded[97:123] = folded[65:91] = np.arange(97, 123)
    return folded


@numba.njit(cache=True, nogil=True)
def word_of(context: Any, folded: Any) -> Any:
    """The context of the word that a context ends in, uint64; 0 if it ends in none, or shows no beginning of it."""
    word = np.uint64(0)
    shift = np.uint64(0)
    while context > np.uint64(1):
        symbol = np.uint64(folded[context & np.uint64(255)])
        word |= symbol << shift
        shift += np.uint64(8)
        context >>= np.uint64(8)
        if symbol == np.uint64(SPACE):
            return word | (np.uint64(2) << shift) if shift > np.uint64(8) else np.uint64(0)
    return np.uint64(0)


def only_words(counts: Counts) -> Counts:
    """Of what was counted behind folded bytes, the contexts of one word, numbered as such."""
    folded = counts.contexts
    keep, marks = np.zeros(len(folded), bool), np.zeros(len(folded), np.uint64)
    for length in range(2, 8):
        mark = np.uint64(1 << 8 * length)
        these = np.flatnonzero((folded >= mark) & (folded < mark << np.uint64(1)))
        symbols = [folded[these] >> np.uint64(8 * back) & np.uint64(255) for back in range(length)]
        inside = np.all([symbol != SPACE for symbol in symbols[:-1]], axis=0)
        keep[these], marks[these] = inside & (symbols[-1] == SPACE), mark
    widths = np.diff(counts.offsets)
    entries = np.repeat(keep, widths)
    return Counts(
        (folded + marks)[keep],
        np.concatenate([[0], np.cumsum(widths[keep])]),
        counts.following[entries],
        counts.counts[entries],
        counts.seldom,
    )
