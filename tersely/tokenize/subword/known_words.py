"""Words with their ids in a hash table of bounded size: a corpus repeats its words, so each is merged once.

A slot holds four numbers:

    0  the first eight bytes of the word
    1  where it stands in ``content`` << 32 | its length; 0 if the slot is free, for no word is empty
    2  its one id << 32 | 1; or where its ids stand in ``ids`` << 32 | how many they are
    3  the upper half of its hash << 32 | how often it was met

A table that is full is made anew of the words that were met most often.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np

from tersely.tokenize.subword.merges import Merges, merge_word
from tersely.tokenize.words.decode import decode_character
from tersely.tokenize.words.tables import ClassTable

Array: TypeAlias = np.ndarray[Any, Any]

LONGEST_KEPT = 64
"""Bytes of the longest word that is kept; longer ones seldom come again."""

LONGEST_MERGED = 1 << 18
"""Bytes of the longest word that is merged here, which takes 64 bytes of memory for each of them."""

_FIRST_SLOTS, MOST_SLOTS = 1 << 14, 1 << 19  # 0.8 MB, and 24 MB, with content and ids
_CONTENT, _IDS = 8, 2  # bytes and ids for a slot
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class KnownWords(NamedTuple):
    """The table; ``used`` counts its slots, bytes of content and ids that are taken."""

    slots: Array  # uint64, (a power of two, 4)
    content: Array  # uint8
    ids: Array  # uint32
    used: Array  # int64, (3,)


def empty_words(slots: int = _FIRST_SLOTS) -> KnownWords:
    """A table without words."""
    return KnownWords(
        np.zeros((slots, 4), np.uint64),
        np.empty(slots * _CONTENT, np.uint8),
        np.empty(slots * _IDS, np.uint32),
        np.zeros(3, np.int64),
    )


def with_room(table: KnownWords) -> KnownWords:
    """A larger table with the same words; at the largest size one with the half that was met most often."""
    size = len(table.slots)
    if size < MOST_SLOTS:
        larger = empty_words(min(4 * size, MOST_SLOTS))
        _move(table, larger, 0)
        return larger
    counts = table.slots[:, 3] & _LOW
    met = np.sort(counts[table.slots[:, 1] > 0])
    fresh = empty_words(size)
    _move(table, fresh, int(met[len(met) // 2]) + 1 if len(met) else 1)
    return fresh


@numba.njit(cache=True, nogil=True)
def encode_words(
    data: Array,
    starts: Array,
    first: int,
    table: KnownWords,
    whole: KnownWords,
    merges: Merges,
    doubtful: ClassTable,
    out: Array,
    made: Array,
    odd: Array,
) -> int:
    """The ids of words, from the one with index ``first`` on, until the table is full.

    Args:
        data: uint8, UTF-8.
        starts: int64, where words start in it, and the end of the last one.
        first: where to begin; ``made[first]`` says where to write.
        table: the words met before, which gets the new ones.
        whole: words that are one id whatever the merges say.
        merges: for the others.
        doubtful: the class 1 of characters that are not known to be split as here.
        out: uint32, a place for each byte from the first word on.
        made: int64, as ``starts``: is set to where the ids of each word begin.
        odd: bool, one fewer: is set where a word has doubtful characters, or is too long; it gets no ids.

    Returns:
        The index of the first word for which there was no room.
    """
    slots, ids = table.slots, table.ids
    at = made[first]
    for word in range(first, len(starts) - 1):
        start, end = starts[word], starts[word + 1]
        head, mixed = _hash(data, start, end)
        slot = _find(slots, table.content, head, mixed, data, start, end)
        if slots[slot, 1] != 0:
            slots[slot, 3] += np.uint64((slots[slot, 3] & _LOW) < _LOW)
            many, place = np.int64(slots[slot, 2] & _LOW), np.int64(slots[slot, 2] >> _HALF)
            if many == 1:
                out[at] = place
            else:
                for i in range(many):
                    out[at + i] = ids[place + i]
            at += many
        elif end - start > LONGEST_MERGED or _has_class(doubtful, data, start, end):
            odd[word] = True
        elif end - start <= LONGEST_KEPT and _is_full(table):
            return word
        else:
            stop = _new_ids(data, start, end, head, mixed, whole, merges, out, at)
            if end - start <= LONGEST_KEPT:
                _keep(table, slot, head, mixed, data[start:end], out[at:stop], 1)
            at = stop
        made[word + 1] = at
    return len(starts) - 1


def words_of_one_id(words: Mapping[bytes, int]) -> KnownWords:
    """A table of these words, of any length."""
    table = empty_words(1 << (2 * len(words) + 1).bit_length())
    table = table._replace(content=np.empty(sum(map(len, words)), np.uint8))
    for word, number in words.items():
        _keep_one(table, np.frombuffer(word, np.uint8), np.array([number], np.uint32))
    return table


@numba.njit(cache=True, nogil=True)
def _keep_one(table: KnownWords, word: Array, ids: Array) -> None:
    head, mixed = _hash(word, 0, len(word))
    _keep(
        table, _find(table.slots, table.content, head, mixed, word, 0, len(word)), head, mixed, word, ids, 1
    )


@numba.njit(cache=True, nogil=True)
def _new_ids(
    data: Array,
    start: Any,
    end: Any,
    head: Any,
    mixed: Any,
    whole: KnownWords,
    merges: Merges,
    out: Array,
    at: int,
) -> Any:
    slot = _find(whole.slots, whole.content, head, mixed, data, start, end)
    if whole.slots[slot, 1] != 0:
        out[at] = np.int64(whole.slots[slot, 2] >> _HALF)
        return at + 1
    return merge_word(merges, data[start:end], out, at)


@numba.njit(cache=True, nogil=True)
def _hash(data: Array, start: Any, end: Any) -> Any:
    """The first eight bytes of a word as a number, and a hash of all of it."""
    head, stop = np.uint64(0), min(end, start + 8)
    for i in range(start, stop):
        head |= np.uint64(data[i]) << np.uint64(8 * (i - start))
    mixed = (head ^ np.uint64(end - start)) * _GOLDEN
    for i in range(stop, end):
        mixed = (mixed ^ mixed >> _HALF ^ np.uint64(data[i])) * _GOLDEN
    mixed = (mixed ^ mixed >> _HALF) * _GOLDEN
    return head, mixed ^ mixed >> np.uint64(29)


@numba.njit(cache=True, nogil=True)
def _find(slots: Array, content: Array, head: Any, mixed: Any, data: Array, start: Any, end: Any) -> Any:
    """The slot that the word has, or would get."""
    mask = np.uint64(len(slots) - 1)
    slot = mixed & mask
    length = np.uint64(end - start)
    while True:
        where = slots[slot, 1]
        if where == 0:
            return slot
        if slots[slot, 0] == head and where & _LOW == length:
            if length <= np.uint64(8):
                return slot
            if slots[slot, 3] >> _HALF == mixed >> _HALF:
                place, i = np.int64(where >> _HALF), 8
                while i < end - start and content[place + i] == data[start + i]:
                    i += 1
                if i == end - start:
                    return slot
        slot = (slot + np.uint64(1)) & mask


@numba.njit(cache=True, nogil=True)
def _is_full(table: KnownWords) -> bool:
    """Whether a word of the greatest length might find no room."""
    return (
        table.used[0] * 10 >= len(table.slots) * 6
        or table.used[1] + LONGEST_KEPT > len(table.content)
        or table.used[2] + LONGEST_KEPT > len(table.ids)
    )


@numba.njit(cache=True, nogil=True)
def _keep(
    table: KnownWords,
    slot: Any,
    head: Any,
    mixed: Any,
    word: Array,
    ids: Array,
    met: Any,
) -> None:
    entry = table.slots[slot]
    place = table.used[1]
    entry[0] = head
    entry[1] = np.uint64(place) << _HALF | np.uint64(len(word))
    entry[3] = mixed >> _HALF << _HALF | np.uint64(met)
    if len(word) > 8:
        table.content[place : place + len(word)] = word
        table.used[1] += len(word)
    if len(ids) == 1:
        entry[2] = np.uint64(ids[0]) << _HALF | np.uint64(1)
    else:
        entry[2] = np.uint64(table.used[2]) << _HALF | np.uint64(len(ids))
        table.ids[table.used[2] : table.used[2] + len(ids)] = ids
        table.used[2] += len(ids)
    table.used[0] += 1


@numba.njit(cache=True, nogil=True)
def _move(table: KnownWords, other: KnownWords, least: int) -> None:
    """Puts into ``other`` the words that were met ``least`` times, each with half its count."""
    short, one = np.empty(8, np.uint8), np.empty(1, np.uint32)
    for slot in range(len(table.slots)):
        entry = table.slots[slot]
        met = np.int64(entry[3] & _LOW)
        if entry[1] == 0 or met < least:
            continue
        length, place = np.int64(entry[1] & _LOW), np.int64(entry[1] >> _HALF)
        for i in range(min(length, 8)):
            short[i] = np.uint8(entry[0] >> np.uint64(8 * i) & np.uint64(255))
        word = short[:length] if length <= 8 else table.content[place : place + length]
        many, first = np.int64(entry[2] & _LOW), np.int64(entry[2] >> _HALF)
        one[0] = first
        ids = one if many == 1 else table.ids[first : first + many]
        head, mixed = _hash(word, 0, length)
        _keep(
            other,
            _find(other.slots, other.content, head, mixed, word, 0, length),
            head,
            mixed,
            word,
            ids,
            met // 2,
        )


@numba.njit(cache=True, nogil=True)
def _has_class(table: ClassTable, data: Array, start: Any, end: Any) -> bool:
    """Whether a character of a word has a class other than 0."""
    i = start
    while i < end:
        if data[i] < 0x80:
            i += 1
            continue
        character = decode_character(data, i, end)
        point = character >> 3
        if table.classes[table.pages[point >> 6], point & 63]:
            return True
        i += character & 7
    return False
