"""The merge loop of byte-pair encoding, on sequences with counts (Sennrich et al. 2016, section 3.2).

Every distinct sequence (a word, or a longer piece of text) stands once in memory, with how often it occurs. A pair of
neighbouring symbols knows its count and the sequences it was born in; the pairs wait in a heap by the count they had
when they were pushed. Counts only fall after a pair's birth, so a pair that comes to the top with its true count is
the most frequent one, and one with an old count is put back. A merge touches only the sequences of its pair:

    sequences of (a, b)  ->  rewritten in place  ->  counts of (x, a), (b, y) fall; (x, ab), (ab, y) are born

Why a pair's list of sequences never grows: no string is ever made by two different pairs (inside a string that has
become one token all earlier merges fell the same way), so all occurrences of a pair are born with its newer token.

Memory: 4 bytes a symbol, and up to 12 more for the lists; 20 bytes a sequence. Counts are int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numba import njit

from tersely.ragged import Ragged
from tersely.tokenize.train.pairs import (
    LISTED,
    Integer,
    State,
    add_pair,
    grown,
    indexed,
    pop,
    push,
    slot,
    with_room,
)

Array: TypeAlias = np.ndarray[Any, Any]

_STEPS = 256
"""Merges between two calls of ``on_progress``."""


def learn_merges(
    sequences: Ragged,
    counts: Array,
    weights: Array,
    how_many: int,
    *,
    given: Array | None = None,
    min_count: int = 1,
    max_weight: int = 1 << 62,
    on_progress: Callable[[int], None] | None = None,
) -> Array:
    """The merges of byte-pair encoding, in order: shape ``(m, 2)``, int32, ``m <= how_many``.

    Merge ``i`` makes the symbol ``len(weights) + i``. The most frequent pair is merged first, and among equals the
    one whose two symbols are smaller, which is what ``tokenizers`` does. Ends early when no pair is left.

    Args:
        sequences: rows of symbols ``0 .. len(weights) - 1``.
        counts: for each row how often it occurs, int64, positive.
        weights: for each symbol a number; that of a merged symbol is the sum of its two.
        how_many: merges to end with, the given ones included.
        given: merges to apply first, shape ``(g, 2)``, whatever their counts.
        min_count: a pair below it is not merged.
        max_weight: nor is one whose weight would be above this (given ones are).
        on_progress: called now and then with the number of merges.
    """
    alphabet = len(weights)
    merges = np.zeros((2, how_many), np.int64)
    done = fixed = 0
    if given is not None and len(given):
        fixed = min(len(given), how_many)
        merges[:, :fixed] = given[:fixed].T
    all_weights = np.concatenate([weights.astype(np.int64), np.zeros(how_many, np.int64)])
    state = indexed(
        sequences.values.astype(np.int32),
        sequences.offsets[:-1].astype(np.int64),
        sequences.lengths.astype(np.int32),
        counts.astype(np.int64),
        all_weights,
    )
    while done < how_many:
        stop = min(how_many, done + _STEPS)
        state, done = _advance(
            state, merges[0], merges[1], done, stop, fixed, alphabet, max(1, min_count), max_weight
        )
        if on_progress:
            on_progress(done)
        if done < stop:
            break
    return merges[:, :done].T.astype(np.int32)


@njit(cache=True, nogil=True)
def _advance(
    state: State,
    lefts: Array,
    rights: Array,
    done: Integer,
    stop: Integer,
    fixed: Integer,
    alphabet: Integer,
    floor: Integer,
    ceiling: Integer,
) -> Any:
    """Goes from merge ``done`` to merge ``stop``, or less far if no pair is left."""
    codes = 2 * len(state.weights)
    change = np.zeros(codes, np.int64)
    fall = np.zeros(codes, np.int64)
    born = np.zeros(codes, np.int64)
    seen = np.full(codes, -1, np.int32)
    while done < stop:
        if done < fixed:
            key = (lefts[done] << 32) | rights[done]
            pair = np.int64(state.slots[slot(state.slots, state.keys, key)]) - 1
        else:
            pair = pop(state, floor, ceiling)
            if pair < 0:
                break
            lefts[done] = state.keys[pair] >> 32
            rights[done] = state.keys[pair] & 0xFFFFFFFF
        left, right, new = lefts[done], rights[done], alphabet + done
        state.weights[new] = state.weights[left] + state.weights[right]
        done += 1
        if pair >= 0:
            touched, fallen, event_codes, event_rows = _rewrite(
                state, pair, left, right, new, change, fall, born, seen
            )
            _lower(state, left, right, fallen, fall)
            state.totals[pair] = 0  # a given merge may still wait in the heap
            needed = np.int64(1) if done < fixed else floor
            state = _give_birth(state, new, needed, touched, event_codes, event_rows, change, born, seen)
    return state, done


@njit(cache=True, nogil=True)
def _rewrite(
    state: State,
    pair: Integer,
    left: Integer,
    right: Integer,
    new: Integer,
    change: Array,
    fall: Array,
    born: Array,
    seen: Array,
) -> Any:
    """Merges in all sequences of a pair, and says what that does to the pairs around it.

    A code is ``2 x`` for a pair with ``x`` on its left, ``2 x + 1`` for one with ``x`` on its right: ``change`` counts
    the pairs (x, new) and (new, x), ``fall`` the pairs (x, left) and (right, x).

    Returns:
        The codes with a change, those with a fall, and for each sequence that has a new pair its code and row.
    """
    symbols = state.symbols
    event_codes, event_rows = np.empty(1024, np.int32), np.empty(1024, np.int32)
    touched, fallen = np.empty(1024, np.int32), np.empty(1024, np.int32)
    events = touches = falls = 0
    for place in range(state.firsts[pair], state.firsts[pair] + state.sizes[pair]):
        row = state.lists[place]
        count, start, length = state.counts[row], state.starts[row], np.int64(state.lengths[row])
        if events + length > len(event_codes):
            event_codes, event_rows = (
                grown(event_codes, 2 * events + length),
                grown(event_rows, 2 * events + length),
            )
            touched = grown(touched, 2 * events + length)
        if falls + length > len(fallen):
            fallen = grown(fallen, 2 * falls + length)
        read = write = start
        end = start + length
        while read < end:
            symbol = symbols[read]
            if symbol != left or read + 1 == end or symbols[read + 1] != right:
                symbols[write] = symbol
                read, write = read + 1, write + 1
                continue
            for side in range(2):
                if (side == 0 and write == start) or (side == 1 and read + 2 == end):
                    continue
                other = np.int64(symbols[write - 1] if side == 0 else symbols[read + 2])
                code = 2 * other + side
                if other == new:
                    change[2 * left + 1] -= count  # (new, left) was born a moment ago, and is no more
                else:
                    if fall[code] == 0:
                        fallen[falls] = code
                        falls += 1
                    fall[code] += count
                change[code] += count
                if seen[code] != row:
                    seen[code] = row
                    if born[code] == 0:
                        touched[touches] = code
                        touches += 1
                    born[code] += 1
                    event_codes[events], event_rows[events] = code, row
                    events += 1
            symbols[write] = new
            read, write = read + 2, write + 1
        state.lengths[row] = write - start
    return touched[:touches], fallen[:falls], event_codes[:events], event_rows[:events]


@njit(cache=True, nogil=True)
def _lower(state: State, left: Integer, right: Integer, fallen: Array, fall: Array) -> None:
    """Takes what fell off the counts of the pairs around a merge."""
    for code in fallen:
        other = np.int64(code) >> 1
        key = (right << 32) | other if code & 1 else (other << 32) | left
        pair = state.slots[slot(state.slots, state.keys, key)]
        if pair:
            state.totals[pair - 1] -= fall[code]
        fall[code] = 0


@njit(cache=True, nogil=True)
def _give_birth(
    state: State,
    new: Integer,
    floor: Integer,
    touched: Array,
    event_codes: Array,
    event_rows: Array,
    change: Array,
    born: Array,
    seen: Array,
) -> State:
    """Makes the pairs with the new symbol, with their lists; not those too rare ever to be merged."""
    state = with_room(state, len(touched), len(event_codes))
    used = state.used
    for code in touched:
        other, total, rows = np.int64(code) >> 1, change[code], born[code]
        change[code], seen[code], born[code] = 0, -1, -1
        if total >= floor:
            born[code] = used[LISTED]
            key = (new << 32) | other if code & 1 else (other << 32) | new
            pair = add_pair(state, key)
            state.totals[pair], state.firsts[pair], state.sizes[pair] = total, used[LISTED], rows
            used[LISTED] += rows
            push(state, total, pair)
    for event in range(len(event_codes)):
        code = event_codes[event]
        if born[code] >= 0:
            state.lists[born[code]] = event_rows[event]
            born[code] += 1
    for code in touched:
        born[code] = 0
    return state
