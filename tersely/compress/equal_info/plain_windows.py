"""Windows once more, one text at a time in Python's own integers: what ``stream.py`` is tested against."""

from __future__ import annotations

import numpy as np

from tersely.compress.equal_info.models.protocol import ByteModel
from tersely.compress.equal_info.stream import LONGEST_WINDOW


def encode(model: ByteModel, bits: int, carry: int, text: bytes) -> list[int]:
    """The codes of a text."""
    codes: list[int] = []
    at = 0
    while at < len(text):
        begin, low, cells = at, 0, 1 << bits
        while at < len(text) and at - begin < LONGEST_WINDOW:
            starts = _starts(model, cells, text[max(0, begin - carry) : at], at == begin)
            first, last = starts[text[at]], starts[text[at] + 1]
            if first == last:
                break
            low, cells, at = low + 1 + first, last - first, at + 1
        codes.append(low)
    return codes


def decode(model: ByteModel, bits: int, carry: int, codes: list[int]) -> bytes:
    """The text of codes that ``encode`` gave."""
    text = b""
    for code in codes:
        begin, low, cells = len(text), 0, 1 << bits
        while code > low:
            starts = _starts(model, cells, text[max(0, begin - carry) :], len(text) == begin)
            byte = max(y for y in range(256) if starts[y] < code - low)
            low, cells = low + 1 + starts[byte], starts[byte + 1] - starts[byte]
            text += bytes([byte])
    return text


def _starts(model: ByteModel, cells: int, before: bytes, root: bool) -> list[int]:
    kept = before[max(0, len(before) - model.context) :]
    cdf = model.cdf(np.array([int.from_bytes(b"\1" + kept)], np.uint64))[0]
    return [(cells - (257 if root else 1)) * int(cdf[y]) // 65536 + y * root for y in range(257)]
