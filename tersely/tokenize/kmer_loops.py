"""The compiled loops of the k-mer tokenizer: one pass over the bytes, one over the ids.

Legend: ``N`` documents, ``B`` bytes, ``T`` ids. Bytes and ids of all documents lie one after another; ``offsets`` are the
``N + 1`` places between documents.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

OTHER = 8
"""The class of a byte that is no letter of a k-mer; 0 to 3 are those of ``ACGT``, 4 to 7 those of ``acgt``."""


@numba.njit(cache=True, nogil=True)
def encode(
    source: Any,
    offsets: Any,
    classes: Any,
    single: Any,
    k: int,
    first_kmer: int,
    bos: int,
    eos: int,
    ids: Any,
    ends: Any,
) -> None:
    """Greedy from the left: k letters of one case become one id, else one byte does.

    Args:
        source: shape ``(B,)``, uint8.
        offsets: shape ``(N + 1,)``, int64.
        classes: shape ``(256,)``, uint8: the class of each byte.
        single: shape ``(256,)``, int64: the id of each byte alone.
        k: letters of a k-mer.
        first_kmer: the id of the k-mer of the lowest letters.
        bos: the id that opens each row, -1 for none.
        eos: the id that closes each row, -1 for none.
        ids: shape of at least ``(B + 2 * N,)``; written from its start.
        ends: shape ``(N + 1,)``, int64, written: the rows of ``ids``, from 0.
    """
    at = 0
    lower = 1 << (2 * k)
    ends[0] = 0
    for row in range(len(offsets) - 1):
        i, stop = offsets[row], offsets[row + 1]
        if bos >= 0:
            ids[at] = bos
            at += 1
        while i + k <= stop:
            kmer, seen, shared = 0, 0, 4
            for j in range(i, i + k):
                letter = np.int64(classes[source[j]])
                kmer = (kmer << 2) | (letter & 3)
                seen |= letter
                shared &= letter
            if seen < 4 or (shared and seen < OTHER):
                ids[at] = first_kmer + kmer + (lower if shared else 0)
                at += 1
                i += k
                continue
            # No k-mer can begin before the longest run of one class that ends where this window does.
            j = i + k - 1
            case = classes[source[j]] & 12
            if case < OTHER:
                while classes[source[j - 1]] & 12 == case:
                    j -= 1
            else:
                j += 1
            while i < j:
                ids[at] = single[source[i]]
                at += 1
                i += 1
        while i < stop:
            ids[at] = single[source[i]]
            at += 1
            i += 1
        if eos >= 0:
            ids[at] = eos
            at += 1
        ends[row + 1] = at


@numba.njit(cache=True, nogil=True)
def decode(ids: Any, k: int, first_byte: int, first_kmer: int, letters: Any, out: Any) -> None:
    """The bytes of ids, one after another; specials, which are below ``first_byte``, give none.

    Args:
        ids: shape ``(T,)``.
        k: letters of a k-mer.
        first_byte: the id of the byte 0.
        first_kmer: the id of the k-mer of the lowest letters.
        letters: shape ``(8,)``, uint8: the letter of each class.
        out: shape of the number of bytes, uint8.
    """
    at = 0
    for index in range(len(ids)):
        number = np.int64(ids[index]) - first_kmer
        if number >= 0:
            lower = (number >> (2 * k)) << 2
            for j in range(k):
                out[at + j] = letters[lower + ((number >> (2 * (k - 1 - j))) & 3)]
            at += k
        elif number >= first_byte - first_kmer:
            out[at] = number + first_kmer - first_byte
            at += 1


@numba.njit(cache=True, nogil=True)
def reverse_complement(source: Any, offsets: Any, complements: Any, out: Any) -> int:
    """Each document backwards, each byte as its complement.

    Args:
        source: shape ``(B,)``, uint8.
        offsets: shape ``(N + 1,)``, int64.
        complements: shape ``(256,)``, uint8; 0 where a byte has none.
        out: shape ``(B,)``, uint8, written.

    Returns:
        The first byte without a complement, -1 if there is none.
    """
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        wrong = -1
        for i in range(start, stop):
            mirrored = start + stop - 1 - i
            other = complements[source[mirrored]]
            out[i] = other
            if other == 0:
                wrong = mirrored
        if wrong >= 0:
            return wrong
    return -1
