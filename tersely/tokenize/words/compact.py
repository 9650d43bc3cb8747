"""A flag for each byte to the positions of the set ones, eight flags at a time."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_SUM = np.uint64(0x0101010101010101)
_GATHER = np.uint64(0x0102040810204080)
_TOP = np.uint64(56)
_BYTE = np.uint64(255)
_HALF = np.uint64(4)
# For each pattern of eight flags the numbers of the set ones, a byte each from the lowest up.
_PLACES = np.array(
    [sum(j << 8 * k for k, j in enumerate(j for j in range(8) if m >> j & 1)) for m in range(256)], np.uint64
)


@numba.njit(cache=True, nogil=True)
def append_positions(flags: Any, size: int, base: int, out: Any, count: int) -> Any:
    """Appends ``base + i`` for each ``flags[i] == 1``, ``i < size``, to ``out`` from place ``count`` on.

    Args:
        flags: uint8, 0 or 1; ``size`` rounded up to a multiple of 8 must exist, zero beyond ``size``.
        size: how many flags.
        base: added to each position.
        out: int64, with room for ``size + 8`` more values: up to eight places behind the last are overwritten.
        count: how many values ``out`` holds.

    Returns:
        How many values it holds now.
    """
    eight = flags[: (size + 7) // 8 * 8].view(np.uint64)
    at = np.uint64(count)  # unsigned: a signed index may be negative, which costs a comparison each
    for j in range(eight.size):
        # One product brings flag k to bit 56 + k, eight bytes become a pattern of eight bits; another one sums them.
        places = _PLACES[(eight[j] * _GATHER) >> _TOP]
        found = (eight[j] * _SUM) >> _TOP
        first = np.uint64(base + 8 * j)
        for k in range(4):
            out[at + np.uint64(k)] = np.int64(first + ((places >> np.uint64(8 * k)) & _BYTE))
        if found > _HALF:  # seldom, so that the branch costs nothing
            for k in range(4, 8):
                out[at + np.uint64(k)] = np.int64(first + ((places >> np.uint64(8 * k)) & _BYTE))
        at += found
    return np.int64(at)
