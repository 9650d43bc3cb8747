r"""How often each byte follows each context, counted by one sort.

Every place of the text gives one number: the bytes before it, nearest first, and the byte itself. Sorted, all places of a
context stand together, whatever its length, with those of every longer context inside. One pass then keeps a counter for
each length and writes it out where its context ends.

    order 6:   b1 b2 b3 b4 b5 b6 | next        9 bits for each byte before (0 where the document had not begun), 8 for
               \_/ context of one byte           the next: 62 bits
               \____/ of two

Cost: 8 bytes a byte of text and a sort of them; about a second for 16 MB.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from tersely.compress.equal_info.contexts import EMPTY
from tersely.ragged import Ragged

_SYMBOL = 9


class Counts(NamedTuple):
    """What follows the contexts that are kept; ``C`` contexts, ``E`` pairs of a context and a byte.

    Attributes:
        contexts: shape ``(C,)``, uint64, growing.
        offsets: shape ``(C + 1,)``, int64: the entries of each context.
        following: shape ``(E,)``, uint8, growing within a context.
        counts: shape ``(E,)``, uint32.
        seldom: shape ``(order + 1, 4)``, int64: of all contexts of a length, how many bytes followed once, twice, three
            and four times.
    """

    contexts: Any
    offsets: Any
    following: Any
    counts: Any
    seldom: Any


def count_most(
    documents: Ragged, order: int, most_contexts: int, before: Any | None = None
) -> tuple[Counts, int]:
    """``count_bytes`` of what was seen twice, or as often as it takes to have at most ``most_contexts``; and how often."""
    least = 2
    counts = count_bytes(documents, order, least, before)
    while len(counts.contexts) > most_contexts:
        least *= 2
        counts = count_bytes(documents, order, least, before)
    if not len(counts.contexts):
        none = np.zeros(0, np.uint8)
        empty = np.array([EMPTY], np.uint64)
        counts = Counts(empty, np.zeros(2, np.int64), none, none.astype(np.uint32), counts.seldom)
    return counts, least


def count_bytes(documents: Ragged, order: int, least: int, before: Any | None = None) -> Counts:
    """Counts what follows each context of up to ``order`` bytes.

    Args:
        documents: rows of uint8; a context never reaches over the start of its document.
        order: the longest context, at most 6.
        least: contexts that occur less often are left out, but for the empty one.
        before: shape ``(B,)``, uint8, what contexts are made of, if it is not the text itself.
    """
    made_of = documents.values if before is None else before
    places = _places(documents.values, made_of, documents.offsets, order)
    places.sort()
    packed, ends, following, counts, seldom = _collect(places, order, least)
    order_of = np.argsort(packed, kind="stable")
    widths = np.diff(ends, prepend=0)[order_of]
    offsets = np.concatenate([[0], np.cumsum(widths)])
    entries = np.repeat(ends[order_of] - offsets[1:], widths) + np.arange(len(following))
    return Counts(packed[order_of], offsets, following[entries], counts[entries], seldom)


@numba.njit(cache=True, nogil=True)
def _places(text: Any, made_of: Any, offsets: Any, order: int) -> Any:
    """A number for each byte of the text: what stands before it, nearest highest, and the byte."""
    found = np.empty(text.size, np.uint64)
    top = np.uint64(_SYMBOL * (order - 1))
    for row in range(offsets.size - 1):
        before = np.uint64(0)
        for i in range(offsets[row], offsets[row + 1]):
            found[i] = (before << np.uint64(8)) | np.uint64(text[i])
            if order:
                before = (before >> np.uint64(_SYMBOL)) | ((np.uint64(made_of[i]) + np.uint64(1)) << top)
    return found


@numba.njit(cache=True, nogil=True)
def _collect(places: Any, order: int, least: int) -> Any:
    """One pass over sorted places: contexts as they end, the longer before the shorter."""
    room, space = 1 << 16, 1 << 18
    contexts = np.empty(room, np.uint64)
    ends = np.empty(room, np.int64)
    following = np.empty(space, np.uint8)
    counts = np.empty(space, np.uint32)
    seldom = np.zeros((order + 1, 4), np.int64)
    tallies = np.zeros((order + 1, 256), np.int64)
    totals = np.zeros(order + 1, np.int64)
    found, entries = 0, 0
    for i in range(places.size + 1):
        shared = -1  # how many of the bytes before are those of the place before
        if i < places.size:
            shared = order
            if i > 0:
                shared = _shared(places[i - 1], places[i], order)
        if i > 0:
            for length in range(order, shared, -1):
                if not _reaches(places[i - 1], length, order):
                    totals[length] = 0
                    tallies[length] = 0
                    continue
                keep = length == 0 or totals[length] >= least
                if found == room:
                    room *= 2
                    contexts = np.concatenate((contexts, np.empty(room - found, np.uint64)))
                    ends = np.concatenate((ends, np.empty(room - found, np.int64)))
                if entries + 256 > space:
                    following = np.concatenate((following, np.empty(space, np.uint8)))
                    counts = np.concatenate((counts, np.empty(space, np.uint32)))
                    space *= 2
                for byte in range(256):
                    seen = tallies[length, byte]
                    if seen == 0:
                        continue
                    tallies[length, byte] = 0
                    if seen <= 4:
                        seldom[length, seen - 1] += 1
                    if keep:
                        following[entries] = byte
                        counts[entries] = min(seen, 0xFFFFFFFF)
                        entries += 1
                totals[length] = 0
                if keep:
                    contexts[found] = _packed(places[i - 1], length, order)
                    ends[found] = entries
                    found += 1
        if i < places.size:
            byte = np.int64(places[i] & np.uint64(255))
            for length in range(order + 1):
                tallies[length, byte] += 1
                totals[length] += 1
    return (
        contexts[:found].copy(),
        ends[:found].copy(),
        following[:entries].copy(),
        counts[:entries].copy(),
        seldom,
    )


@numba.njit(cache=True, nogil=True)
def _shared(one: Any, other: Any, order: int) -> int:
    """How many of the nearest bytes before two places are the same."""
    differing = (one ^ other) >> np.uint64(8)
    for length in range(order, 0, -1):
        if differing >> np.uint64(_SYMBOL * (order - length)) == 0:
            return length
    return 0


@numba.njit(cache=True, nogil=True)
def _reaches(place: Any, length: int, order: int) -> bool:
    """Whether the document had ``length`` bytes before the place."""
    if length == 0:
        return True
    return (place >> np.uint64(8 + _SYMBOL * (order - length))) & np.uint64(0x1FF) != 0


@numba.njit(cache=True, nogil=True)
def _packed(place: Any, length: int, order: int) -> Any:
    """The context of the ``length`` bytes before a place."""
    context = np.uint64(1)
    for back in range(length, 0, -1):
        symbol = (place >> np.uint64(8 + _SYMBOL * (order - back))) & np.uint64(0x1FF)
        context = (context << np.uint64(8)) | (symbol - np.uint64(1))
    return context
