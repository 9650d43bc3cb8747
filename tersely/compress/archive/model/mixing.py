"""The prediction of a bit: the opinions of all contexts, weighed by mixers that learn whom to believe.

    histories -> maps -> logistics -> three mixers, their weights chosen by the bits of this byte, by how many contexts are known
    and how long the match is, and by the last byte -> a last mixer -> correction by what came when this was said before

Logistic mixing is that of M. Mahoney, "Adaptive Weighing of Context Models for Lossless Data Compression" (2005), in integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tersely.compress.archive.model.compiled import compiled
from tersely.compress.archive.model.contexts import find_slots, next_byte
from tersely.compress.archive.model.histories import histories
from tersely.compress.archive.model.memory import (
    BIT,
    BYTE_SET,
    CHOSEN,
    CONTEXTS,
    EXPECTED,
    FINAL_PLACE,
    FINAL_SET,
    INPUTS,
    LAST4,
    LENGTH,
    LENGTHS,
    MATCH_MAPS,
    MATCH_PLACE,
    MATCH_SET,
    MIXED,
    NODE,
    OPINIONS,
    ORDER0_MAPS,
    ORDER1_MAPS,
    ORDER1_PLACE,
    PARTIAL,
    PLACES,
    SETS,
    SLOTS,
    SSE_MAPS,
    SSE_PLACE,
    SSE_STEPS,
    SSE_WIDTH,
)
from tersely.compress.logistic import (
    COUNT_LIMIT,
    EDGE,
    reciprocal_table,
    squash_table,
    stretch_table,
)

RATE, FINAL_RATE = 8, 4
"""How fast mixers learn."""

_SQUASH, _STRETCH = squash_table(), stretch_table()
_RECIPROCALS = reciprocal_table()
_FOLLOWING = histories().following.reshape(-1)
_CORRECTABLE = SSE_STEPS // 2 * SSE_WIDTH - 1


@compiled
def predict(slots: Any, maps: Any, weights: Any, inputs: Any, now: Any) -> Any:
    """The probability that the next bit is a 1, 1 to 65,535 of 65,536."""
    known = _ask_contexts(slots, maps, inputs, now)
    length = _ask_match(maps, inputs, now)
    now[ORDER1_PLACE] = ORDER1_MAPS + ((now[LAST4] & 255) << 8 | now[PARTIAL])
    inputs[INPUTS - 3] = _STRETCH[np.uint64(maps[np.uint64(now[ORDER1_PLACE])] >> 20)]
    inputs[INPUTS - 2] = _STRETCH[np.uint64(maps[np.uint64(ORDER0_MAPS + now[PARTIAL])] >> 20)]
    inputs[INPUTS - 1] = 256
    now[CHOSEN] = now[PARTIAL]
    trust = np.int64(length > 0) + np.int64(length > 8) + np.int64(length > 15)
    now[CHOSEN + 1] = MATCH_SET + (known << 5 | trust << 3 | now[BIT])
    now[CHOSEN + 2] = BYTE_SET + (now[LAST4] & 255)
    x = _mix(weights, inputs, now)
    mixed = np.int64(_SQUASH[np.uint64(x + EDGE)])
    now[MIXED] = mixed
    corrected = _correct(maps, now, x)
    return min(65535, max(1, (mixed + 3 * corrected + 2) >> 2))


@compiled
def _ask_contexts(slots: Any, maps: Any, inputs: Any, now: Any) -> Any:
    """Puts in the opinion of each context; how many of the orders 1 to 6 were met before."""
    node, known = now[NODE], 0
    for i in range(CONTEXTS):
        history = np.int64(slots[np.uint64(now[SLOTS + i] + node)])
        place = i << 8 | history
        now[PLACES + i] = place
        if history:
            inputs[i] = _STRETCH[np.uint64(maps[np.uint64(place)] >> 20)]
            known += np.int64(i < 5)
        else:
            inputs[i] = 0
    return known


@compiled
def _ask_match(maps: Any, inputs: Any, now: Any) -> Any:
    """Puts in the opinion of the match; its length, in classes, 0 if it has none."""
    expected, bit = now[EXPECTED], now[BIT]
    if expected == 0 or expected >> (8 - bit) != now[PARTIAL]:
        inputs[CONTEXTS] = 0
        now[MATCH_PLACE] = -1
        return 0
    n = now[LENGTH]
    length = n if n < 16 else 16 + (n - 16 >> 2) if n < 32 else min(20 + (n - 32 >> 5), LENGTHS - 1)
    place = MATCH_MAPS + (length << 1 | expected >> (7 - bit) & 1)
    now[MATCH_PLACE] = place
    inputs[CONTEXTS] = _STRETCH[np.uint64(maps[np.uint64(place)] >> 20)]
    return length


@compiled
def _mix(weights: Any, inputs: Any, now: Any) -> Any:
    """The logistic that all mixers come to."""
    final_set = np.uint64(FINAL_SET + now[PARTIAL])
    now[FINAL_PLACE] = np.int64(final_set)
    final = 0
    for s in range(SETS):
        row = np.uint64(now[CHOSEN + s])
        total = 0
        for i in range(inputs.size):
            total += np.int64(weights[row, i]) * np.int64(inputs[i])
        opinion = min(EDGE, max(-EDGE, total >> 16))
        now[OPINIONS + s] = opinion
        final += np.int64(weights[final_set, s]) * opinion
    return min(EDGE, max(-EDGE, final >> 16))


@compiled
def _correct(maps: Any, now: Any, x: int) -> Any:
    """What came, behind the same byte, when the mixers said ``x``: between two points, of which the nearer will learn."""
    x = min(_CORRECTABLE, max(-_CORRECTABLE, x)) + SSE_STEPS // 2 * SSE_WIDTH
    step = x // SSE_WIDTH
    beyond = x - step * SSE_WIDTH
    place = SSE_MAPS + (now[PARTIAL] | (now[LAST4] & 255) << 8) * (SSE_STEPS + 1) + step
    now[SSE_PLACE] = place + np.int64(2 * beyond >= SSE_WIDTH)
    lower, upper = np.int64(maps[np.uint64(place)]), np.int64(maps[np.uint64(place + 1)])
    return (lower * (SSE_WIDTH - beyond) + upper * beyond) // (SSE_WIDTH << 16)


@compiled
def learn(
    slots: Any, maps: Any, weights: Any, inputs: Any, behind: Any, seen: Any, now: Any, bit: int
) -> None:
    """Takes in the bit that was predicted."""
    _learn_weights(weights, inputs, now, bit)
    node = now[NODE]
    for i in range(CONTEXTS):
        place = now[PLACES + i]
        _move(maps, place, bit)
        slots[np.uint64(now[SLOTS + i] + node)] = _FOLLOWING[np.uint64((place & 255) << 1 | bit)]
    if now[MATCH_PLACE] >= 0:
        _move(maps, now[MATCH_PLACE], bit)
    _move(maps, ORDER0_MAPS + now[PARTIAL], bit)
    _move(maps, now[ORDER1_PLACE], bit)
    place = np.uint64(now[SSE_PLACE])
    p = np.int64(maps[place])
    maps[place] = p + ((bit * 0xFFFFFFFF - p) >> 7)
    now[PARTIAL] = now[PARTIAL] << 1 | bit
    now[NODE] = node << 1 | bit
    now[BIT] += 1
    if now[BIT] == 8:
        next_byte(slots, behind, seen, now)
    elif now[BIT] == 4:
        now[NODE] = 1
        find_slots(slots, now)


@compiled
def _learn_weights(weights: Any, inputs: Any, now: Any, bit: int) -> None:
    final_set = np.uint64(now[FINAL_PLACE])
    final_error = ((bit << 16) - now[MIXED]) * FINAL_RATE
    for s in range(SETS):
        opinion = now[OPINIONS + s]
        error = np.int32(((bit << 16) - np.int64(_SQUASH[np.uint64(opinion + EDGE)])) * RATE)
        row = np.uint64(now[CHOSEN + s])
        for i in range(inputs.size):
            weights[row, i] += np.int32((np.int64(inputs[i]) * np.int64(error) + (1 << 19)) >> 20)
        weights[final_set, s] += np.int32((opinion * final_error + (1 << 19)) >> 20)


@compiled
def _move(maps: Any, place: int, bit: int) -> None:
    """Moves a place towards the bit, the less the more it has seen."""
    value = np.int64(maps[np.uint64(place)])
    p, count = value >> 10, value & COUNT_LIMIT
    p += ((bit << 22) - p) * np.int64(_RECIPROCALS[np.uint64(count)]) >> 16
    maps[np.uint64(place)] = p << 10 | min(count + 1, COUNT_LIMIT)
