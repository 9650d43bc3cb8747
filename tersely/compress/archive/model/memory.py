"""The memory of the model: what it has seen, and what it has learned of which opinions to believe.

Beside the slots it takes a quarter as much again for the bytes behind it and where they were, and 9 MB that do not grow.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from tersely.compress.archive.model.histories import histories
from tersely.compress.logistic import EDGE, reciprocal_table, squash_table, stretch_table

SMALLEST, LARGEST = 1 << 20, 1 << 30
"""Bytes of slots that a model may have."""

CONTEXTS = 12
"""How many contexts have slots; ``contexts.py`` says which."""
INPUTS = CONTEXTS + 4
"""Opinions that are mixed: of each context, of the match, of the orders 1 and 0 on their own, and a constant."""
SETS = 3
"""Mixers, each of which takes its weights by another context."""
MATCH_SET, BYTE_SET, FINAL_SET = 256, 256 + 6 * 4 * 8, 256 + 6 * 4 * 8 + 256
"""Where the weights of the second and the third mixer begin, and those of the last one."""
LENGTHS = 32
"""Classes of lengths of a match."""

MATCH_MAPS = 256 * CONTEXTS
"""Where the places of the matches begin in ``maps``."""
ORDER0_MAPS = MATCH_MAPS + 2 * LENGTHS
ORDER1_MAPS = ORDER0_MAPS + 256
SSE_MAPS = ORDER1_MAPS + 65536
SSE_STEPS, SSE_WIDTH = 32, 144
"""The last correction is learned at 33 points of the logistic, this far apart."""

# Places of ``now``: single numbers, then a few for each context and each mixer.
PARTIAL = 0  # the bits of this byte so far, with a 1 before them
BIT = 1  # how many these are
NODE = 2  # those of this half of the byte, likewise
LAST4, LAST8 = 3, 4  # the last four bytes as a number, the latest lowest; the four before them
POSITION = 5  # bytes so far
WORD, WORD1, WORD2 = 6, 7, 8  # hashes of the letters of this word so far, and of the two words before it
LINE, WIDTH = 9, 10  # where this line began, and the length of the one above
MATCH, LENGTH = 11, 12  # the byte behind the match, and how many bytes agree before it; 0 for no match
EXPECTED = 13  # the byte that the match expects, plus 256; 0 once it was wrong
MATCH_PLACE, ORDER1_PLACE, SSE_PLACE, FINAL_PLACE = 14, 15, 16, 19  # what the last prediction was made of
MIXED = 17  # what the mixers said together
TOUCHED = 18  # what was read early to have it near; of no meaning
HASHES, SLOTS, PLACES, CHECKS, CHOSEN, OPINIONS = 20, 32, 44, 56, 68, 71
_NUMBERS = 74


class Model(NamedTuple):
    """Arrays, which the compiled loops change in place.

    Attributes:
        slots: shape ``(memory,)``, uint8: slots of 16 bytes, a check and the 15 histories of half a byte in some context.
        maps: shape ``(M,)``, uint32: adaptive probabilities, each of 22 bits with a count of 10, for each context and history;
            then for matches, for the orders 0 and 1, and for the last correction.
        weights: shape ``(S, INPUTS)``, int32, in 65,536ths: the sets of each mixer.
        inputs: shape ``(INPUTS,)``, int32: the opinions about the next bit.
        behind: shape ``(memory / 8,)``, uint8: the last bytes, in a ring.
        seen: shape ``(memory / 32,)``, int32: for a hash of six bytes, where in ``behind`` they were last.
        now: shape ``(74,)``, int64: where it is; named above.
    """

    slots: Any
    maps: Any
    weights: Any
    inputs: Any
    behind: Any
    seen: Any
    now: Any


def new_model(memory: int) -> Model:
    """A model that knows nothing, with ``memory`` bytes of slots, a power of two; all contexts begin in the first slot."""
    slots = np.zeros(memory + 64, np.uint8)
    start = -slots.ctypes.data % 64  # a line of the processor's cache is four slots
    now = np.zeros(_NUMBERS, np.int64)
    now[PARTIAL] = now[NODE] = 1
    return Model(
        slots=slots[start : start + memory],
        maps=_first_maps(),
        weights=_first_weights(),
        inputs=np.zeros(INPUTS, np.int32),
        behind=np.zeros(memory // 8, np.uint8),
        seen=np.zeros(memory // 32, np.int32),
        now=now,
    )


def fingerprint() -> bytes:
    """Eight bytes that tell models apart whose tables differ."""
    tables = (*histories(), squash_table(), stretch_table(), reciprocal_table(), _first_weights()[:, 0])
    shape = (CONTEXTS, INPUTS, SETS, MATCH_SET, BYTE_SET, FINAL_SET, LENGTHS, SSE_STEPS, SSE_WIDTH)
    digest = hashlib.sha256(repr(shape).encode())
    for table in tables:
        digest.update(np.asarray(table).astype("<i8").tobytes())
    return digest.digest()[:8]


def _first_maps() -> Any:
    maps = np.full(SSE_MAPS + (1 << 16) * (SSE_STEPS + 1), 1 << 31, np.uint32)
    maps[:MATCH_MAPS] = np.tile(histories().first, CONTEXTS)
    points = (np.arange(SSE_STEPS + 1) - SSE_STEPS // 2) * SSE_WIDTH + EDGE
    maps[SSE_MAPS:] = np.tile(squash_table()[points].astype(np.uint32) << 16, 1 << 16)
    return maps


def _first_weights() -> Any:
    weights = np.full((FINAL_SET + 256, INPUTS), 13000, np.int32)
    weights[FINAL_SET:] = 65536 // SETS
    return weights
