"""From parts of any total to the sums of a distribution, in whole numbers."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.models.protocol import PRECISION


@numba.njit(cache=True, nogil=True)
def sum_up(parts: Any) -> Any:
    """Sums ``(N, 257)``, int32, of parts ``(N, 256)``, uint32, of which each row has a total of 1 to ``2**31``."""
    sums = np.empty((parts.shape[0], 257), np.int32)
    for i in range(parts.shape[0]):
        sum_up_one(parts[i], sums[i])
    return sums


@numba.njit(cache=True, nogil=True)
def sum_up_one(parts: Any, sums: Any) -> None:
    """Parts of any total, at most 2**31, to a sum of exactly 2**16 with at least 1 for each byte."""
    total = np.uint64(0)
    for byte in range(256):
        total += np.uint64(parts[byte])
    scale = (np.uint64((1 << PRECISION) - 256) << np.uint64(40)) // total
    before = np.uint64(0)
    for byte in range(256):
        sums[byte] = np.int64((before * scale) >> np.uint64(40)) + byte
        before += np.uint64(parts[byte])
    sums[256] = 1 << PRECISION
