"""Documents as one buffer of bytes, and the work on them shared out among threads.

Compiled loops and the libraries let go of Python's lock, so a plain pool of threads runs them side by side. The documents
are cut into parts of about the same size and the results put together in order: the ids of a document cannot depend on
the count. A pool lives for one call: one that lived on would be dead in a forked process, where waiting for it never ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from tersely.errors import UsageError
from tersely.ragged import Ragged
from tersely.tokenize.protocol import Texts, as_bytes, byte_rows

_Result = TypeVar("_Result")
_PARTS = 4  # for each thread, so that one with quick documents does not wait for one with slow ones


def one_buffer(texts: Texts) -> Ragged:
    """The UTF-8 bytes of each text as a row of uint8; nothing is copied if they are that already.

    Raises:
        TokenizeError: as ``as_bytes``.
    """
    if isinstance(texts, Ragged):
        return byte_rows(texts)
    rows: Any = as_bytes(texts)
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=offsets[1:])
    return Ragged(np.frombuffer(b"".join(rows), np.uint8), offsets)


def thread_count(threads: int | None) -> int:
    """``threads``, or as many as this process may use processors; raises UsageError below 1."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise UsageError(f"threads is {threads}: it must be at least 1, or None for all processors")
    return threads


def in_parts(
    offsets: np.ndarray[Any, Any], threads: int, work: Callable[[int, int], _Result]
) -> list[_Result]:
    """``work(first, last)`` for runs of documents of about equal size, the results in order.

    Args:
        offsets: shape ``(documents + 1,)``, the bytes at which documents begin.
        threads: how many runs at a time.
        work: takes the first document and the one after the last; runs side by side with itself.
    """
    parts = threads * _PARTS if threads > 1 else 1
    aims = np.arange(1, parts) * int(offsets[-1]) // parts
    cuts = np.unique(np.concatenate([[0], np.searchsorted(offsets, aims), [len(offsets) - 1]])).tolist()
    runs = list(zip(cuts[:-1], cuts[1:], strict=True)) or [(0, 0)]
    if len(runs) == 1:
        return [work(*runs[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda run: work(*run), runs))


def encode_in_threads(encode: Callable[[list[str]], Ragged], texts: list[str], threads: int) -> Ragged:
    """``encode(texts)`` by several threads."""
    sizes = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) + 1 for text in texts], out=sizes[1:])
    return Ragged.concat(in_parts(sizes, threads, lambda first, last: encode(texts[first:last])))
