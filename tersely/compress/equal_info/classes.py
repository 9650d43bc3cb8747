"""Which bytes before a window get a trie of their own.

All that a text has often enough would be best; each costs ``2**bits`` records in memory, so it is the bytes that occur
once in ``RARE`` places at least, and of pairs of such bytes the ``MOST_PAIRS`` most frequent.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.ragged import Ragged

RARE = 100_000
"""Bytes that make up less than one in so many of the text have no class."""

MOST_PAIRS = 256
"""Pairs of bytes that have a class."""


def choose_classes(documents: Ragged, carry: int) -> list[bytes]:
    """The classes for windows that carry up to ``carry`` bytes, 0 to 2; the first is that of no bytes.

    Args:
        documents: rows of uint8, the text to choose by.
        carry: the longest class.
    """
    single, pairs = _count(documents.values, documents.offsets)
    chosen = [b""]
    if carry >= 1:
        bytes_, least = np.argsort(-single, kind="stable"), max(1, len(documents.values) // RARE)
        chosen += [bytes([byte]) for byte in bytes_.tolist() if single[byte] >= least]
    if carry >= 2:
        most = np.argsort(-pairs, kind="stable")[:MOST_PAIRS].tolist()
        known = set(chosen)
        texts = (bytes(divmod(pair, 256)) for pair in most if pairs[pair])
        chosen += [text for text in texts if text[:1] in known]
    return chosen


@numba.njit(cache=True, nogil=True)
def _count(text: Any, offsets: Any) -> Any:
    """How often each byte, and each pair of bytes of a document, occurs."""
    single, pairs = np.zeros(256, np.int64), np.zeros(1 << 16, np.int64)
    for row in range(offsets.size - 1):
        for i in range(offsets[row], offsets[row + 1]):
            single[text[i]] += 1
            if i > offsets[row]:
                pairs[(np.int64(text[i - 1]) << 8) | np.int64(text[i])] += 1
    return single, pairs
