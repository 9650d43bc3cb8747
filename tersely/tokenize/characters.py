"""Places counted in characters, for text that may hold bytes that are not UTF-8.

Characters are those of ``text.decode("utf-8", "surrogateescape")``: a byte that is not UTF-8 is one by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tersely.ragged import Ragged


def character_of_byte(text: bytes) -> np.ndarray[Any, Any]:
    """For each byte the index of its character, shape ``(len(text),)``, int64."""
    points = np.frombuffer(
        text.decode("utf-8", "surrogateescape").encode("utf-32-le", "surrogatepass"), np.uint32
    )
    escaped = (points >= 0xDC80) & (points <= 0xDCFF)
    width = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    width[escaped] = 1
    return np.repeat(np.arange(len(points)), width)


def character_spans(documents: Ragged, spans: Ragged) -> Ragged:
    """The characters that ranges of bytes touch.

    Args:
        documents: rows of uint8.
        spans: for each document half-open ranges of its bytes, values ``(total, 2)``, int64; may be empty ones.

    Returns:
        The ranges in characters, of the same shape. A range that begins or ends inside a character has all of it.
    """
    rows: list[np.ndarray[Any, Any]] = [np.empty((0, 2), np.int64)]
    for text, span in zip(documents, spans, strict=True):
        if not len(text) or int(text.max()) < 0x80:  # a character is a byte
            rows.append(span)
            continue
        character = character_of_byte(text.tobytes())
        count = int(character[-1]) + 1 if len(character) else 0
        first = np.append(character, count)[span[:, 0]]
        last = np.append(character + 1, 0)[span[:, 1] - 1]
        rows.append(np.stack([first, np.where(span[:, 0] < span[:, 1], last, first)], axis=1))
    return Ragged(np.concatenate(rows), spans.offsets)
