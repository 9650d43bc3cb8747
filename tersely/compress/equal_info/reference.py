"""The code in plain Python, straight from the model: no tables, no shared nodes. Slow; the tests compare with it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tersely.compress.equal_info.code.cells import LONGEST_WINDOW
from tersely.compress.equal_info.contexts import pack
from tersely.compress.equal_info.models.protocol import PRECISION, ByteModel


def shares(chances: Sequence[int], cells: int, root: bool, left: int) -> list[int]:
    """The cells of each byte; ``chances`` are parts of 2**16, ``left`` the bytes that a window may still have."""
    given = [1 if root else 0] * 256
    spare = cells - 1 - sum(given)
    exact = [Fraction(spare * chance, 1 << PRECISION) for chance in chances]
    whole = [int(part) for part in exact]
    order = sorted(range(256), key=lambda byte: (whole[byte] - exact[byte], byte))
    for byte in order[: spare - sum(whole)]:
        whole[byte] += 1
    result = [one + two for one, two in zip(given, whole, strict=True)]
    room = sum(256**length for length in range(left))
    surplus = sum(max(0, part - room) for part in result)
    result = [min(part, room) for part in result]
    for byte in sorted(range(256), key=lambda byte: (-chances[byte], byte)):
        more = min(surplus, room - result[byte])
        result[byte] += more
        surplus -= more
    return result


def encode(model: ByteModel, bits: int, classes: Sequence[bytes], text: bytes) -> list[int]:
    """The ids of one document."""
    ids: list[int] = []
    place = 0
    while place < len(text):
        before = _class(classes, text[:place])
        number, cells, begin = 0, 1 << bits, place
        while place < len(text):
            parts = _parts(model, before + text[begin:place], cells, place - begin)
            if parts is None or not parts[text[place]]:
                break
            number += 1 + sum(parts[: text[place]])
            cells = parts[text[place]]
            place += 1
        ids.append(number)
    return ids


def decode(model: ByteModel, bits: int, classes: Sequence[bytes], ids: Sequence[int]) -> bytes:
    """The document of ids, without any that end a text."""
    text = b""
    for number in ids:
        before, window, low, cells = _class(classes, text), b"", 0, 1 << bits
        while number > low:
            parts = _parts(model, before + window, cells, len(window))
            assert parts is not None
            low += 1
            byte = 0
            while number >= low + parts[byte]:
                low += parts[byte]
                byte += 1
            window, cells = window + bytes([byte]), parts[byte]
        text += window
    return text


def _parts(model: ByteModel, context: bytes, cells: int, depth: int) -> list[int] | None:
    """The cells of each byte behind ``depth`` bytes of a window; None if there are none to give."""
    if cells == 1:
        return None
    kept = context[max(0, len(context) - model.context) :]
    sums: Any = model.cdf(np.array([pack(kept)], np.uint64))[0]
    return shares(np.diff(sums).tolist(), cells, depth == 0, LONGEST_WINDOW - depth)


def _class(classes: Sequence[bytes], text: bytes) -> bytes:
    """The longest class that the text ends with."""
    return max((one for one in classes if text.endswith(one)), key=len)
