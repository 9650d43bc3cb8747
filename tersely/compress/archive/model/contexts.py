"""What the next bits are predicted from: the bytes before, the words before, the line above, and the last such place.

    0 to 5     the last 1, 2, 3, 4, 6 and 8 bytes
    6, 7, 8    the letters of this word; with the word before; with the two before
    9, 10      the byte above, in the line before, with the last byte; with the column
    11         the last byte, and the upper halves of the three before

A slot holds the histories of the four bits of half a byte: one for each of the 15 ways through them. Four slots share a line of
the processor's cache, and a context finds its slot there by a check of eight bits, or takes the one that has seen least. So a
prediction misses the cache twice for a byte and a context, and what is lost when the memory is full is what was rare.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tersely.compress.archive.model.compiled import compiled
from tersely.compress.archive.model.memory import (
    BIT,
    CHECKS,
    CONTEXTS,
    EXPECTED,
    HASHES,
    LAST4,
    LAST8,
    LENGTH,
    LINE,
    MATCH,
    NODE,
    PARTIAL,
    POSITION,
    SLOTS,
    TOUCHED,
    WIDTH,
    WORD,
    WORD1,
    WORD2,
)

LOW = 0xFFFFFFFF
"""32 bits: hashes are made of products below 2**63, which every language has."""
SHORTEST, LONGEST = 5, 400
"""Bytes that a match must have when it is found, and that are compared then."""
_SPREAD = 0x1F35B1D7


@compiled
def mixed_hash(a: int, b: int) -> Any:
    """32 bits of two numbers, of which the lowest 32 count."""
    h = (a & LOW) * 0x2F0B4C47 + (b & LOW) * 0x3D4D51CB
    h ^= h >> 29
    h = (h & LOW) * 0x2545F491
    return (h >> 13 ^ h) & LOW


@compiled
def find_slots(slots: Any, now: Any) -> None:
    """Finds the slot of each context for the next half of a byte."""
    _touch_lines(slots, now)
    for i in range(CONTEXTS):
        first, check = np.uint64(now[SLOTS + i]), np.uint8(now[CHECKS + i])
        found, least = first, np.int64(256)
        for j in range(0, 64, 16):
            at = first + np.uint64(j)
            if slots[at] == check:
                found, least = at, np.int64(-1)
                break
            value = np.int64(slots[at + np.uint64(1)])
            if value < least:
                found, least = at, value
        if least >= 0:
            slots[found] = check
            for j in range(1, 16):
                slots[found + np.uint64(j)] = 0
        now[SLOTS + i] = np.int64(found)


@compiled
def _touch_lines(slots: Any, now: Any) -> None:
    """Finds the line and the check of each context. No read waits for another here, so that the processor fetches all at once."""
    lines = (slots.size >> 6) - 1
    partial, touched = now[PARTIAL], 0
    for i in range(CONTEXTS):
        h = now[HASHES + i]
        if partial > 1:
            h = mixed_hash(h, partial)
        first = (h >> 8 & lines) << 6
        touched += np.int64(slots[np.uint64(first)])
        now[SLOTS + i], now[CHECKS + i] = first, h & 255
    now[TOUCHED] = touched


@compiled
def next_byte(slots: Any, behind: Any, seen: Any, now: Any) -> None:
    """Takes in a byte whose bits are all known, and sets the contexts for the next one."""
    byte = now[PARTIAL] & 255
    now[PARTIAL], now[NODE], now[BIT] = 1, 1, 0
    now[LAST8] = (now[LAST8] << 8 | now[LAST4] >> 24) & LOW
    now[LAST4] = (now[LAST4] << 8 | byte) & LOW
    behind[np.uint64(now[POSITION] & (behind.size - 1))] = byte
    now[POSITION] += 1
    _follow_words(now, byte)
    _hash_contexts(behind, now, byte)
    _follow_match(behind, seen, now, byte)
    find_slots(slots, now)


@compiled
def _follow_words(now: Any, byte: int) -> None:
    letter = byte + 32 if 65 <= byte <= 90 else byte
    if 97 <= letter <= 122 or byte >= 128:
        now[WORD] = mixed_hash(now[WORD] + letter, 1)
    elif now[WORD]:
        now[WORD2], now[WORD1], now[WORD] = now[WORD1], now[WORD], 0
    if byte == 10:
        now[WIDTH] = now[POSITION] - now[LINE]
        now[LINE] = now[POSITION]


@compiled
def _hash_contexts(behind: Any, now: Any, byte: int) -> None:
    last, word = now[LAST4], now[WORD]
    above = 0
    if 0 < now[WIDTH] < behind.size:
        above = np.int64(behind[np.uint64((now[POSITION] - now[WIDTH]) & (behind.size - 1))])
    column = min(255, now[POSITION] - now[LINE])
    pair = word * 3 + byte + now[WORD1] * 0x1F35B1
    now[HASHES] = mixed_hash(byte, 2)
    now[HASHES + 1] = mixed_hash(last & 0xFFFF, 3)
    now[HASHES + 2] = mixed_hash(last & 0xFFFFFF, 4)
    now[HASHES + 3] = mixed_hash(last, 5)
    now[HASHES + 4] = mixed_hash(last + (now[LAST8] & 0xFFFF) * _SPREAD, 6)
    now[HASHES + 5] = mixed_hash(last + now[LAST8] * _SPREAD, 7)
    now[HASHES + 6] = mixed_hash(word + byte * _SPREAD, 8)
    now[HASHES + 7] = mixed_hash(pair, 9)
    now[HASHES + 8] = mixed_hash(pair + now[WORD2] * 0x51B1, 10)
    now[HASHES + 9] = mixed_hash(above << 8 | byte, 11)
    now[HASHES + 10] = mixed_hash(column << 8 | above, 12)
    now[HASHES + 11] = mixed_hash(last & 0xF0F0F0FF, 13)


@compiled
def _follow_match(behind: Any, seen: Any, now: Any, byte: int) -> None:
    """Goes on with the match if it was right, else looks for where the last six bytes were before."""
    mask = behind.size - 1
    at, length = now[MATCH], now[LENGTH]
    if length and np.int64(behind[np.uint64(at & mask)]) == byte:
        at, length = at + 1, min(length + 1, 65535)
    else:
        length = 0
    key = np.uint64(mixed_hash(now[LAST4] + (now[LAST8] & 0xFFFF) * _SPREAD, 14) & (seen.size - 1))
    here = now[POSITION]
    if not length:
        at = np.int64(seen[key])
        while (
            at
            and length < LONGEST
            and behind[np.uint64((at - length - 1) & mask)] == behind[np.uint64((here - length - 1) & mask)]
        ):
            length += 1
        length = length if length >= SHORTEST else 0
    seen[key] = here & mask
    now[MATCH], now[LENGTH] = at, length
    now[EXPECTED] = np.int64(behind[np.uint64(at & mask)]) + 256 if length else 0
