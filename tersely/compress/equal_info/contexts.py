"""The last bytes of a text as one number, so that arrays of them can be searched, sorted and hashed.

A context is a one bit with the bytes below it, the latest lowest: ``1`` is the empty context, ``0x1_61`` is ``a`` and
``0x1_61_62`` is ``ab``. Contexts of different lengths are different numbers, and longer ones are larger.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

EMPTY = 1
"""The context of a text that begins here."""

LONGEST = 7
"""Bytes that fit."""


def pack(text: bytes) -> int:
    """The context of ``text``, of which the last ``LONGEST`` bytes count."""
    return int.from_bytes(b"\1" + text[-LONGEST:])


def unpack(context: int) -> bytes:
    """The bytes of a context."""
    return context.to_bytes(LONGEST + 1).lstrip(b"\0")[1:]


@numba.njit(cache=True, nogil=True)
def push(contexts: Any, following: Any, longest: int) -> Any:
    """The contexts one byte further on.

    Args:
        contexts: shape ``(N,)``, uint64.
        following: shape ``(N,)``, uint8: the byte that comes behind each.
        longest: bytes to keep, at most ``LONGEST``.

    Returns:
        Shape ``(N,)``, uint64.
    """
    limit = np.uint64(1) << np.uint64(8 * longest)
    pushed = np.empty_like(contexts)
    for i in range(contexts.size):
        if contexts[i] >= limit:
            pushed[i] = limit | (
                ((contexts[i] << np.uint64(8)) | np.uint64(following[i])) & (limit - np.uint64(1))
            )
        else:
            pushed[i] = (contexts[i] << np.uint64(8)) | np.uint64(following[i])
    return pushed


@numba.njit(cache=True, nogil=True)
def shorter(context: Any) -> Any:
    """The context without its first byte; it is not empty."""
    mark = np.uint64(1)  # becomes the highest power of 256 below the context's own
    while mark <= (context >> np.uint64(16)):
        mark <<= np.uint64(8)
    return mark | (context & (mark - np.uint64(1)))


@numba.njit(cache=True, nogil=True)
def contexts_before(text: Any, offsets: Any, longest: int) -> Any:
    """The context of each byte of documents, within its document.

    Args:
        text: shape ``(B,)``, uint8.
        offsets: shape ``(documents + 1,)``, int64.
        longest: bytes to keep, at most ``LONGEST``.

    Returns:
        Shape ``(B,)``, uint64.
    """
    found = np.empty(text.size, np.uint64)
    limit = np.uint64(1) << np.uint64(8 * longest)
    for row in range(offsets.size - 1):
        context = np.uint64(1)
        for i in range(offsets[row], offsets[row + 1]):
            found[i] = context
            longer = (context << np.uint64(8)) | np.uint64(text[i])
            context = limit | (longer & (limit - np.uint64(1))) if context >= limit else longer
    return found
