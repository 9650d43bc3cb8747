"""The arithmetic coder: bits that were likely cost little; blocks to bytes and back, under one model.

Low and high are the ends of an interval of 32-bit numbers; a bit takes its part of it, and the leading bytes that both ends share
are settled, so nothing is ever carried into them. A block ends with four bytes that name the high end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tersely.compress.archive.model.compiled import compiled, door, sources
from tersely.compress.archive.model.contexts import LOW
from tersely.compress.archive.model.memory import LAST4
from tersely.compress.archive.model.mixing import learn, predict


def _doors(changes: int) -> tuple[Any, Any]:
    """``encode`` and ``decode``, which stand on disk for all the loops that they call."""

    @door
    def encode(source: Any, out: Any, *model: Any) -> Any:
        return _encode(source, out, *model) if changes else -1

    @door
    def decode(coded: Any, out: Any, *model: Any) -> Any:
        return _decode(coded, out, *model) if changes else -1

    return encode, decode


@compiled
def _encode(
    source: Any,
    out: Any,
    slots: Any,
    maps: Any,
    weights: Any,
    inputs: Any,
    behind: Any,
    seen: Any,
    now: Any,
) -> int:
    low, high, at = 0, LOW, 0
    for i in range(source.size):
        byte = np.int64(source[i])
        for shift in range(7, -1, -1):
            bit = byte >> shift & 1
            middle = low + ((high - low) * predict(slots, maps, weights, inputs, now) >> 16)
            if bit:
                high = middle
            else:
                low = middle + 1
            learn(slots, maps, weights, inputs, behind, seen, now, bit)
            while (low ^ high) >> 24 == 0:
                if at < out.size:
                    out[np.uint64(at)] = high >> 24
                at += 1
                low = low << 8 & LOW
                high = (high << 8 & LOW) | 255
    for shift in range(24, -8, -8):
        if at < out.size:
            out[np.uint64(at)] = high >> shift & 255
        at += 1
    return at


@compiled
def _decode(
    coded: Any,
    out: Any,
    slots: Any,
    maps: Any,
    weights: Any,
    inputs: Any,
    behind: Any,
    seen: Any,
    now: Any,
) -> int:
    low, high, value, at = 0, LOW, 0, 0
    for _ in range(4):
        value = value << 8 | (np.int64(coded[np.uint64(at)]) if at < coded.size else 0)
        at += 1
    for i in range(out.size):
        for _ in range(8):
            middle = low + ((high - low) * predict(slots, maps, weights, inputs, now) >> 16)
            bit = np.int64(value <= middle)
            if bit:
                high = middle
            else:
                low = middle + 1
            learn(slots, maps, weights, inputs, behind, seen, now, bit)
            while (low ^ high) >> 24 == 0:
                low = low << 8 & LOW
                high = (high << 8 & LOW) | 255
                if at >= coded.size:
                    return at + 1
                value = (value << 8 & LOW) | np.int64(coded[np.uint64(at)])
                at += 1
        out[i] = now[LAST4] & 255
    return at


encode, decode = _doors(sources())
"""Encode, or decode, a block, and let the model learn it.

Args:
    source, coded: shape ``(B,)``, uint8: the bytes of the block, or its coded bytes.
    out: shape ``(K,)``, uint8, written from its start. Of coded bytes, those that do not fit are not written; bytes are decoded
        until it is full or there are no more coded bytes.
    model: the arrays of a ``Model``, changed in place.

Returns:
    How many coded bytes there were; for the coded bytes of another block, another number, or wrong bytes in ``out``.
"""
