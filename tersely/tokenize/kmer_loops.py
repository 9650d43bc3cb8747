"""The compiled loops of the k-mer tokenizer: one pass over the bytes, one over the ids.

Legend: ``N`` documents, ``B`` bytes, ``T`` ids. Bytes and ids of all documents lie one after another; ``offsets`` are the
``N + 1`` places between documents.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.tokenize.kmer import OTHER


@numba.njit(cache=True, nogil=True)
def encode(
    source: Any,
    offsets: Any,
    classes: Any,
    single: Any,
    k: int,
    first_kmer: int,
    backwards: bool,
    bos: int,
    eos: int,
    ids: Any,
    ends: Any,
) -> int:
    """Greedy from the left: k letters of one case become one id, else one byte does.

    Args:
        source: shape ``(B,)``, uint8.
        offsets: shape ``(N + 1,)``, int64.
        classes: shape ``(256,)``, uint8: the class of each byte.
        single: shape ``(256,)``, int64: the id of each byte alone, -1 where it must not occur.
        k: letters of a k-mer.
        first_kmer: the id of the k-mer of the lowest letters.
        backwards: read each document from its end.
        bos: the id that opens each row, -1 for none.
        eos: the id that closes each row, -1 for none.
        ids: shape of at least ``(B + 2 * N,)``; written from its start.
        ends: shape ``(N + 1,)``, int64, written: the rows of ``ids``, from 0.

    Returns:
        The place of a byte that must not occur, where it stopped; -1 if there is none.
    """
    at, lower = 0, 1 << (2 * k)
    step = -1 if backwards else 1
    ends[0] = 0
    for row in range(len(offsets) - 1):
        # The i-th byte in the order of reading is source[begin + step * i]. (As an unsigned index, for a signed one is
        # asked each time whether it counts from the end.)
        begin = offsets[row + 1] - 1 if backwards else offsets[row]
        i, stop = 0, offsets[row + 1] - offsets[row]
        if bos >= 0:
            ids[at] = bos
            at += 1
        while i < stop:
            j = stop
            if i + k <= stop:
                kmer, seen, shared = 0, 0, 4
                for j in range(i, i + k):
                    letter = np.int64(classes[source[np.uint64(begin + step * j)]])
                    kmer = (kmer << 2) | (letter & 3)
                    seen |= letter
                    shared &= letter
                if seen < 4 or (shared and seen < OTHER):
                    ids[at] = first_kmer + kmer + (lower if shared else 0)
                    at += 1
                    i += k
                    continue
                j = _next_start(source, classes, begin, step, i + k - 1, stop)
            while i < j:
                alone = single[source[np.uint64(begin + step * i)]]
                if alone < 0:
                    return begin + step * i
                ids[at] = alone
                at += 1
                i += 1
        if eos >= 0:
            ids[at] = eos
            at += 1
        ends[row + 1] = at
    return -1


@numba.njit(cache=True, nogil=True)
def _next_start(source: Any, classes: Any, begin: int, step: int, last: int, stop: int) -> int:
    """Where the next k-mer may begin, behind a window that ends at ``last`` and is none.

    That is at the first of the letters of one case that the window ends with, or behind bytes that are no such letters.
    """
    j = last
    case = classes[source[np.uint64(begin + step * j)]] & 12
    if case < OTHER:
        while classes[source[np.uint64(begin + step * (j - 1))]] & 12 == case:
            j -= 1
        return j
    while j < stop and classes[source[np.uint64(begin + step * j)]] == OTHER:
        j += 1
    return j


@numba.njit(cache=True, nogil=True)
def decode(
    ids: Any, offsets: Any, k: int, first_byte: int, first_kmer: int, letters: Any, out: Any, ends: Any
) -> None:
    """The bytes of each row of ids; specials, which are below ``first_byte``, give none.

    Args:
        ids: shape ``(T,)``.
        offsets: shape ``(N + 1,)``, int64.
        k: letters of a k-mer.
        first_byte: the id of the byte 0.
        first_kmer: the id of the k-mer of the lowest letters.
        letters: shape ``(8,)``, uint8: the letter of each class.
        out: shape ``(B,)``, uint8, written.
        ends: shape ``(N + 1,)``, int64, written: the rows of ``out``, from 0.
    """
    at = 0
    ends[0] = 0
    for row in range(len(offsets) - 1):
        for index in range(offsets[row], offsets[row + 1]):
            number = np.int64(ids[index]) - first_kmer
            if number >= 0:
                lower = (number >> (2 * k)) << 2
                for j in range(k):
                    out[at + j] = letters[lower + ((number >> (2 * (k - 1 - j))) & 3)]
                at += k
            elif number >= first_byte - first_kmer:
                out[at] = number + first_kmer - first_byte
                at += 1
        ends[row + 1] = at


@numba.njit(cache=True, nogil=True)
def reverse_complement(source: Any, offsets: Any, complements: Any, out: Any) -> None:
    """Each document backwards, each byte as its complement.

    Args:
        source: shape ``(B,)``, uint8.
        offsets: shape ``(N + 1,)``, int64.
        complements: shape ``(256,)``, uint8.
        out: shape ``(B,)``, uint8, written.
    """
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        for i in range(start, stop):
            out[i] = complements[source[start + stop - 1 - i]]
