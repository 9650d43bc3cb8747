"""The pairs of neighbouring symbols: their counts, the sequences they occur in, and the heap they wait in."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit

Array: TypeAlias = np.ndarray[Any, Any]
Integer: TypeAlias = Any
"""An int64 of compiled code, which is an int or a numpy integer to the type checker."""

PAIRS, LISTED, HEAPED = 0, 1, 2  # places in State.used


class State(NamedTuple):
    """What the loop works on; all arrays are larger than what is in use, which ``used`` says."""

    symbols: Array  # int32: all sequences, each shrinking in its place
    starts: Array  # int64: where each sequence begins
    lengths: Array  # int32: how many symbols it has now
    counts: Array  # int64: how often it occurs
    keys: Array  # int64: for each pair, left << 32 | right
    totals: Array  # int64: its count now
    firsts: Array  # int64: where its list of sequences begins in ``lists``
    sizes: Array  # int64: how many sequences that are
    slots: Array  # int32: hash table from key to 1 + pair, 0 where free
    lists: Array  # int32: indices of sequences
    heap_totals: Array  # int64: the count of a waiting pair when it was pushed
    heap_pairs: Array  # int64: the pair
    weights: Array  # int64: for each symbol
    used: Array  # int64: pairs, listed sequences, waiting pairs


@njit(cache=True, nogil=True)
def indexed(symbols: Array, starts: Array, lengths: Array, counts: Array, weights: Array) -> State:
    """The pairs of the sequences as they are, with their counts and lists."""
    state = State(
        symbols,
        starts,
        lengths,
        counts,
        np.empty(1024, np.int64),
        np.zeros(1024, np.int64),
        np.full(1024, -1, np.int64),
        np.zeros(1024, np.int64),
        np.zeros(4096, np.int32),
        np.empty(0, np.int32),
        np.empty(1024, np.int64),
        np.empty(1024, np.int64),
        weights,
        np.zeros(3, np.int64),
    )
    none = np.int64(0)  # not a literal, for which another version would be compiled
    for row in range(len(starts)):
        state = with_room(state, np.int64(lengths[row]), none)
        for place in range(starts[row], starts[row] + lengths[row] - 1):
            key = (np.int64(symbols[place]) << 32) | np.int64(symbols[place + 1])
            pair = np.int64(state.slots[slot(state.slots, state.keys, key)]) - 1
            if pair < 0:
                pair = add_pair(state, key)
                state.totals[pair], state.firsts[pair], state.sizes[pair] = 0, -1, 0
            state.totals[pair] += counts[row]
            if state.firsts[pair] != row:  # here the row that was seen last
                state.firsts[pair] = row
                state.sizes[pair] += 1
    pairs = state.used[PAIRS]
    state = with_room(state, none, state.sizes[:pairs].sum())
    cursor = np.empty(pairs, np.int64)
    for pair in range(pairs):
        cursor[pair] = state.firsts[pair] = state.used[LISTED]
        state.used[LISTED] += state.sizes[pair]
        push(state, state.totals[pair], pair)
    for row in range(len(starts)):
        for place in range(starts[row], starts[row] + lengths[row] - 1):
            key = (np.int64(symbols[place]) << 32) | np.int64(symbols[place + 1])
            pair = np.int64(state.slots[slot(state.slots, state.keys, key)]) - 1
            at = cursor[pair]
            if at == state.firsts[pair] or state.lists[at - 1] != row:
                state.lists[at] = row
                cursor[pair] += 1
    return state


@njit(cache=True, nogil=True)
def with_room(state: State, pairs: Integer, listed: Integer) -> State:
    """The state with room for so many more pairs (and as many waiting ones) and listed sequences."""
    used = state.used
    keys, totals, firsts, sizes = state.keys, state.totals, state.firsts, state.sizes
    slots, lists = state.slots, state.lists
    heap_totals, heap_pairs = state.heap_totals, state.heap_pairs
    need = used[PAIRS] + pairs
    if need > len(keys):
        size = max(need, len(keys) * 3 // 2)
        keys, totals = grown(keys, size), grown(totals, size)
        firsts, sizes = grown(firsts, size), grown(sizes, size)
    if 2 * need > len(slots):
        width = len(slots)
        while 2 * need > width:
            width *= 2
        slots = np.zeros(width, np.int32)
        for pair in range(used[PAIRS]):
            slots[slot(slots, keys, keys[pair])] = pair + 1
    if used[LISTED] + listed > len(lists):
        lists = grown(lists, max(used[LISTED] + listed, len(lists) * 5 // 4))
    if need > len(heap_totals):
        size = max(need, len(heap_totals) * 3 // 2)
        heap_totals, heap_pairs = grown(heap_totals, size), grown(heap_pairs, size)
    return State(
        state.symbols,
        state.starts,
        state.lengths,
        state.counts,
        keys,
        totals,
        firsts,
        sizes,
        slots,
        lists,
        heap_totals,
        heap_pairs,
        state.weights,
        used,
    )


@njit(cache=True, nogil=True)
def grown(array: Array, size: Integer) -> Array:
    """A larger copy."""
    larger = np.empty(size, array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True)
def slot(slots: Array, keys: Array, key: Integer) -> Integer:
    """Where the pair of this key is in the hash table, or where it belongs."""
    mask = np.int64(len(slots) - 1)
    mixed = key * np.int64(-7046029254386353131)  # 2**64 / the golden ratio
    place = (mixed ^ (mixed >> 32)) & mask
    while slots[place] != 0 and keys[slots[place] - 1] != key:
        place = (place + 1) & mask
    return place


@njit(cache=True, nogil=True)
def add_pair(state: State, key: Integer) -> Integer:
    """Makes a pair, for which there must be room, and gives its index."""
    pair = state.used[PAIRS]
    state.keys[pair] = key
    state.slots[slot(state.slots, state.keys, key)] = pair + 1
    state.used[PAIRS] += 1
    return pair


@njit(cache=True, nogil=True)
def _before(state: State, total: Integer, pair: Integer, other_total: Integer, other: Integer) -> Any:
    """Whether a pair is merged before another: the more frequent one, then the one of smaller symbols."""
    return total > other_total or (total == other_total and state.keys[pair] < state.keys[other])


@njit(cache=True, nogil=True)
def push(state: State, total: Integer, pair: Integer) -> None:
    """Puts a pair into the heap, for which there must be room."""
    place = state.used[HEAPED]
    state.used[HEAPED] += 1
    while place > 0:
        above = (place - 1) >> 1
        if not _before(state, total, pair, state.heap_totals[above], state.heap_pairs[above]):
            break
        state.heap_totals[place], state.heap_pairs[place] = state.heap_totals[above], state.heap_pairs[above]
        place = above
    state.heap_totals[place], state.heap_pairs[place] = total, pair


@njit(cache=True, nogil=True)
def _sink(state: State, total: Integer, pair: Integer) -> None:
    """Puts a pair in the place of the top, and down from there to where it belongs."""
    place, size = 0, state.used[HEAPED]
    totals, pairs = state.heap_totals, state.heap_pairs
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        if below + 1 < size and _before(
            state, totals[below + 1], pairs[below + 1], totals[below], pairs[below]
        ):
            below += 1
        if not _before(state, totals[below], pairs[below], total, pair):
            break
        totals[place], pairs[place] = totals[below], pairs[below]
        place = below
    totals[place], pairs[place] = total, pair


@njit(cache=True, nogil=True)
def pop(state: State, floor: Integer, ceiling: Integer) -> Integer:
    """The pair to merge next, or -1."""
    while state.used[HEAPED] > 0:
        pair, then = state.heap_pairs[0], state.heap_totals[0]
        now = state.totals[pair]
        if now != then and now >= floor:
            _sink(state, now, pair)
            continue
        state.used[HEAPED] -= 1
        last = state.used[HEAPED]
        if last > 0:
            _sink(state, state.heap_totals[last], state.heap_pairs[last])
        key = state.keys[pair]
        weight = state.weights[key >> 32] + state.weights[key & 0xFFFFFFFF]
        if now == then and now >= floor and weight <= ceiling:
            return pair
    return -1
