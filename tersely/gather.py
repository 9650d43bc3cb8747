"""Copies ranges of an array one after another: what taking rows, packing and unpacking come down to."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

_FEW = 1 << 11
"""So few values are taken by numpy: to load compiled code takes longer than many such calls."""


def gather_rows(
    values: np.ndarray[Any, Any], starts: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Copies ranges of ``values`` one after another: range ``i`` starts at ``starts[i]`` and lands at ``offsets[i]``.

    Args:
        values: shape ``(total, *item)``.
        starts: shape ``(n,)``, int64; the ranges must lie inside ``values``.
        offsets: shape ``(n + 1,)``, int64, non-decreasing from 0.

    Returns:
        Shape ``(offsets[-1], *item)``. Copied as bytes, whatever the item is.
    """
    values = np.ascontiguousarray(values)
    out = np.empty((int(offsets[-1]), *values.shape[1:]), values.dtype)
    width = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    if out.size <= _FEW:
        places = np.repeat(starts - offsets[:-1], np.diff(offsets)) + np.arange(len(out))
        out[...] = values[places]
    elif out.size:
        source = values.reshape(-1).view(np.uint8)
        _byte_copier()(source, starts * width, out.reshape(-1).view(np.uint8), offsets * width)
    return out


@functools.cache
def _byte_copier() -> Any:
    import numba

    return numba.njit(cache=True, nogil=True)(_copy_bytes)


def _copy_bytes(source: Any, starts: Any, out: Any, offsets: Any) -> None:
    for row in range(len(starts)):
        length = offsets[row + 1] - offsets[row]
        taken = source[starts[row] : starts[row] + length]
        place = out[offsets[row] : offsets[row + 1]]
        for i in range(
            length
        ):  # over views from 0 this becomes wide moves, and compiles quicker than a slice
            place[i] = taken[i]
