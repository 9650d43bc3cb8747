"""Documents over several threads: the same ids for any number of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tersely.errors import UsageError
from tersely.ragged import Ragged

_PARTS = 4
"""Parts for each thread, so that a thread with short documents does not wait for one with long ones."""


def thread_count(threads: int | None) -> int:
    """``threads``, or as many as this process may use processors."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise UsageError(f"threads is {threads}: it must be at least 1, or None for all processors")
    return threads


def over_threads(encode: Callable[[list[str]], Ragged], texts: list[str], threads: int) -> Ragged:
    """``encode(texts)``, in parts of about equal size, by a pool that lives for this call only.

    (A pool that lived on would be dead in a forked process, where waiting for it never ends.)
    """
    if threads == 1 or len(texts) < 2:
        return encode(texts)
    sizes = np.cumsum([len(text) + 1 for text in texts])
    marks = sizes[-1] * np.arange(1, threads * _PARTS) // (threads * _PARTS)
    bounds = np.unique(np.concatenate([[0], np.searchsorted(sizes, marks), [len(texts)]])).tolist()
    parts = [texts[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return Ragged.concat(list(pool.map(encode, parts)))
