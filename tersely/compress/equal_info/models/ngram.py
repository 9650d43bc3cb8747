"""``NgramModel``: the next byte from the bytes before it, by counts, in fixed point.

Absolute discounting, interpolated over all lengths of context (Ney, Essen and Kneser 1994), with a discount each for
bytes seen once, twice and more often, as Chen and Goodman (1998, section 3) estimate them. With ``N`` the number of times
that a context was seen and ``c`` how often the byte followed it:

    p(byte | context) = (c - D(c)) / N  +  (all that was taken off) / N  *  p(byte | context without its first byte)

below the empty context all bytes are alike. Every step is integer arithmetic on parts of ``2**31``, rounded down, so a
model gives the same numbers on every machine.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.models.count import Counts, count_most
from tersely.compress.equal_info.models.parts import sum_up_one
from tersely.compress.equal_info.models.rows import hashed, longest_rows, suffix_rows
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize.batch import one_buffer
from tersely.tokenize.protocol import Texts, config_fingerprint

LONGEST_ORDER = 6
"""Bytes of context that can be counted."""

MOST_CONTEXTS = 1 << 22
"""Contexts that a model keeps; of more, the rarest are left out."""

_ONE = 31
_SHORT = 2  # bytes of a context whose distribution is computed once and kept
_DISCOUNT = 8  # binary places of a discount


class NgramModel:
    """Distributions of the next byte from counts.

    Args:
        counts: what followed the contexts, the empty one among them.
        order: the longest context.

    ``train`` makes one from text, ``load`` from a file.
    """

    def __init__(self, counts: Counts, order: int) -> None:
        self._counts, self._order = counts, order
        self._discounts = _discounts(counts.seldom)

    @classmethod
    def train(
        cls, texts: Texts, *, order: int = LONGEST_ORDER, most_contexts: int = MOST_CONTEXTS
    ) -> NgramModel:
        """Counts ``texts``; contexts seen only once are left out, and the rarest until ``most_contexts`` are left.

        Raises:
            UsageError: ``order`` is outside 0 to 6.
            TokenizeError: a text is no text.
        """
        if not 0 <= order <= LONGEST_ORDER:
            raise UsageError(f"no contexts of {order} bytes: order is 0 to {LONGEST_ORDER}")
        counts, _ = count_most(one_buffer(texts), order, most_contexts)
        return cls(counts, order)

    @property
    def context(self) -> int:
        """The longest context, in bytes."""
        return self._order

    @property
    def fingerprint(self) -> str:
        """A hash of all counts."""
        parts = (np.ascontiguousarray(array).tobytes() for array in self._counts)
        return config_fingerprint({"type": "ngram", "order": self._order}, *parts)

    def known(self, contexts: Any) -> Any:
        """The longest suffix of each context that was counted; shape ``(N,)``, uint64."""
        return self._counts.contexts[longest_rows(contexts, self._counts.contexts, self._slots)]

    def cdf(self, contexts: Any) -> Any:
        """The distributions after contexts, shape ``(N, 257)``, int32, from 0 to 65,536."""
        rows = longest_rows(np.ascontiguousarray(contexts, np.uint64), self._counts.contexts, self._slots)
        counts = self._counts
        return _cdf(rows, self._mixed, self._shorter, *counts[1:4], self._discounts)

    def save(self, file: str | Path) -> None:
        """Writes the counts as safetensors."""
        from safetensors.numpy import save

        about = json.dumps({"type": "ngram", "version": 1, "order": self._order})
        Path(file).write_bytes(save(self._counts._asdict(), {"model": about}))

    @classmethod
    def load(cls, file: str | Path) -> NgramModel:
        """The model that ``save`` wrote.

        Raises:
            TokenizeError: the file is none.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(file), "np") as stored:
                about = json.loads((stored.metadata() or {}).get("model", "{}"))
                counts = Counts(*(stored.get_tensor(name) for name in Counts._fields))
        except (OSError, ValueError, SafetensorError) as error:
            raise TokenizeError(f"{file} cannot be read as a model: {error}") from error
        if about.get("type") != "ngram" or about.get("version") != 1:
            raise TokenizeError(f"{file} holds no n-gram model of version 1: train it again")
        return cls(counts, int(about["order"]))

    @functools.cached_property
    def _slots(self) -> Any:
        return hashed(self._counts.contexts)

    @functools.cached_property
    def _shorter(self) -> Any:
        """For each context the row of the one without its first byte, -1 for the empty one."""
        return suffix_rows(self._counts.contexts, self._slots)

    @functools.cached_property
    def _mixed(self) -> Any:
        """The distributions of the shortest contexts."""
        rows = int(np.searchsorted(self._counts.contexts, np.uint64(1 << 8 * (_SHORT + 1))))
        return _mixed_short(self._shorter, *self._counts[1:4], self._discounts, rows)


def _discounts(seldom: Any) -> Any:
    """What is taken off a count of 1, of 2, and of more, for contexts of each length; ``(order + 1, 3)``, in 256ths."""
    found = np.empty((len(seldom), 3), np.uint64)
    for length, numbers in enumerate(seldom.tolist()):
        once, twice = max(numbers[0], 1), max(numbers[1], 1)
        for seen in (1, 2, 3):
            here, more = max(numbers[seen - 1], 1), numbers[seen]
            off = (seen << _DISCOUNT) - ((seen + 1) * more * once << _DISCOUNT) // (here * (once + 2 * twice))
            found[length, seen - 1] = min(max(off, 1 << _DISCOUNT - 3), (seen << _DISCOUNT) - 1)
    return found


@numba.njit(cache=True, nogil=True)
def _mixed_short(suffixes: Any, offsets: Any, following: Any, counts: Any, discounts: Any, rows: int) -> Any:
    """The distributions of the first ``rows`` contexts, which are the shortest; shape ``(rows, 256)``, uint32."""
    mixed = np.empty((rows, 256), np.uint32)
    for row in range(rows):
        length = 0
        above = suffixes[row]
        if above >= 0:
            mixed[row] = mixed[above]
        else:
            mixed[row] = (1 << _ONE) // 256
        while above >= 0:
            length += 1
            above = suffixes[above]
        _mix(mixed[row], row, offsets, following, counts, discounts[length])
    return mixed


@numba.njit(cache=True, nogil=True)
def _cdf(
    rows: Any, mixed: Any, suffixes: Any, offsets: Any, following: Any, counts: Any, discounts: Any
) -> Any:
    """The distributions of rows of contexts: that of the longest short suffix, with those of longer ones on top."""
    sums = np.empty((rows.size, 257), np.int32)
    parts = np.empty(256, np.uint32)
    chain = np.empty(discounts.shape[0], np.int64)
    for i in range(rows.size):
        depth, row = 0, rows[i]
        while row >= mixed.shape[0]:
            chain[depth] = row
            depth += 1
            row = suffixes[row]
        parts[:] = mixed[row]
        length = 0
        while suffixes[row] >= 0:
            length += 1
            row = suffixes[row]
        for level in range(depth - 1, -1, -1):
            length += 1
            _mix(parts, chain[level], offsets, following, counts, discounts[length])
        sum_up_one(parts, sums[i])
    return sums


@numba.njit(cache=True, nogil=True)
def _mix(parts: Any, row: int, offsets: Any, following: Any, counts: Any, discounts: Any) -> None:
    """Puts what a context was seen with on top of the distribution of its suffix, in place."""
    total, taken = np.uint64(0), np.uint64(0)
    for entry in range(offsets[row], offsets[row + 1]):
        total += np.uint64(counts[entry])
        taken += discounts[min(counts[entry], np.uint32(3)) - 1]
    if total == 0:
        return
    kept = np.uint32((taken << np.uint64(_ONE - _DISCOUNT)) // total)
    for byte in range(256):
        parts[byte] = (np.uint64(parts[byte]) * np.uint64(kept)) >> np.uint64(_ONE)
    for entry in range(offsets[row], offsets[row + 1]):
        count = np.uint64(counts[entry])
        left = (count << np.uint64(_DISCOUNT)) - discounts[min(counts[entry], np.uint32(3)) - 1]
        parts[following[entry]] += np.uint32((left << np.uint64(_ONE - _DISCOUNT)) // total)
