"""A hash table of byte strings with counts, of a fixed size: what word counting stands on.

Strings stand one after another in ``content``; a slot of the table holds one more than the index of its string. The
hash is FNV-1a of 64 bits with a final mixing, the same on every machine and in every process.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit

Array: TypeAlias = np.ndarray[Any, Any]

BYTES_AN_ENTRY = 48
"""What a string may cost on average: its hash, end and count, its slots, and 16 bytes of content."""

_CONTENT_AN_ENTRY = 16
_FIRST_SLOTS = 1 << 16


class Table(NamedTuple):
    """Strings ``content[ends[i] : ends[i + 1]]`` with their hashes and counts; ``size[0]`` of them are in use."""

    slots: Array  # int32
    hashes: Array  # uint64
    ends: Array  # int64, one more than strings
    counts: Array  # int64
    content: Array  # uint8
    size: Array  # int64


def empty_table(memory: int) -> Table:
    """A table that will not take more than ``memory`` bytes (which are only touched as it fills)."""
    entries = max(64, memory // BYTES_AN_ENTRY)
    return Table(
        np.zeros(min(_FIRST_SLOTS, _slots_for(entries)), np.int32),
        np.empty(entries, np.uint64),
        np.zeros(entries + 1, np.int64),
        np.empty(entries, np.int64),
        np.empty(max(1 << 16, entries * _CONTENT_AN_ENTRY), np.uint8),
        np.zeros(1, np.int64),
    )


def add_strings(
    table: Table, content: Array, offsets: Array, amounts: Array, first: int
) -> tuple[Table, int]:
    """Counts strings from the one with index ``first`` on, until the table is full.

    Args:
        table: what to add to.
        content: uint8, the strings one after another, none longer than 65536 bytes.
        offsets: int64, one more than strings.
        amounts: int64, how often each occurs; empty if once.
        first: where to begin.

    Returns:
        The table (a larger one has more slots), and the index of the first string for which there was no room.
    """
    while True:
        first = int(_add(table, content, offsets, amounts, first))
        room = _slots_for(len(table.hashes))
        if first == len(offsets) - 1 or len(table.slots) >= room:
            return table, first
        slots = np.zeros(min(room, 4 * len(table.slots)), np.int32)
        _place(slots, table.hashes, int(table.size[0]))
        table = table._replace(slots=slots)


def _slots_for(entries: int) -> int:
    """A power of two of slots, between 1.4 and 2.8 for each string."""
    return 1 << int(entries * 14 // 10).bit_length()


@njit(cache=True, nogil=True)
def _add(table: Table, content: Array, offsets: Array, amounts: Array, first: int) -> int:
    slots, hashes, ends = table.slots, table.hashes, table.ends
    mask = np.uint64(len(slots) - 1)
    entries = table.size[0]
    room = min(len(hashes), len(slots) * 10 // 14)
    stop = len(offsets) - 1
    for string in range(first, len(offsets) - 1):
        start, end = offsets[string], offsets[string + 1]
        mixed = np.uint64(14695981039346656037)
        for at in range(start, end):
            mixed = (mixed ^ np.uint64(content[at])) * np.uint64(1099511628211)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        place = mixed & mask
        while True:
            entry = np.int64(slots[place]) - 1
            if entry < 0 or (
                hashes[entry] == mixed
                and _same(table.content, ends[entry], ends[entry + 1], content, start, end)
            ):
                break
            place = (place + np.uint64(1)) & mask
        if entry < 0:
            at = ends[entries]
            if entries == room or at + end - start > len(table.content):
                stop = string
                break
            for i in range(end - start):
                table.content[at + i] = content[start + i]
            entry = entries
            entries += 1
            ends[entries] = at + end - start
            hashes[entry], table.counts[entry] = mixed, 0
            slots[place] = entries
        table.counts[entry] += amounts[string] if len(amounts) else 1
    table.size[0] = entries
    return stop


@njit(cache=True, nogil=True)
def _same(content: Array, start: int, end: int, other: Array, other_start: int, other_end: int) -> bool:
    if end - start != other_end - other_start:
        return False
    for i in range(end - start):  # noqa: SIM110 -- compiled code has no generators
        if content[start + i] != other[other_start + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def _place(slots: Array, hashes: Array, entries: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for entry in range(entries):
        place = hashes[entry] & mask
        while slots[place] != 0:
            place = (place + np.uint64(1)) & mask
        slots[place] = entry + 1
