"""Documents as one buffer of bytes, and the work on them shared out among threads.

Compiled loops let go of Python's lock, so a plain pool of threads runs them side by side. The documents are cut into
as many parts as there are threads, of about the same bytes, and the results put together in order: the ids of a
document cannot depend on the count.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from tersely.errors import UsageError
from tersely.ragged import Ragged
from tersely.tokenize.protocol import Texts, as_bytes

_Result = TypeVar("_Result")


def one_buffer(texts: Texts) -> Ragged:
    """The UTF-8 bytes of each text as a row of uint8; nothing is copied if they are that already.

    Raises:
        TokenizeError: as ``as_bytes``.
    """
    rows: Any = as_bytes(texts)
    if isinstance(texts, Ragged):
        return texts.to_numpy()
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=offsets[1:])
    return Ragged(np.frombuffer(b"".join(rows), np.uint8), offsets)


def check_threads(threads: int) -> int:
    """``threads``, which is at least 1; raises UsageError if not."""
    if threads < 1:
        raise UsageError(f"{threads} threads: give 1 or more")
    return threads


def in_parts(
    offsets: np.ndarray[Any, Any], threads: int, work: Callable[[int, int], _Result]
) -> list[_Result]:
    """``work(first, last)`` for runs of documents of about equal size, the results in order.

    Args:
        offsets: shape ``(documents + 1,)``, the bytes at which documents begin.
        threads: how many runs, at most, and how many at a time.
        work: takes the first document and the one after the last; runs side by side with itself.
    """
    aims = np.arange(1, threads) * int(offsets[-1]) // threads
    cuts = np.unique(np.concatenate([[0], np.searchsorted(offsets, aims), [len(offsets) - 1]])).tolist()
    runs = list(zip(cuts[:-1], cuts[1:], strict=True)) or [(0, 0)]
    if len(runs) == 1:
        return [work(*runs[0])]
    with ThreadPoolExecutor(len(runs)) as pool:
        return list(pool.map(lambda run: work(*run), runs))
