"""What a place remembers of the bits it has seen, in one byte: all of the first four, then how many of each, and the last.

The states are numbered by how much they have seen, so that a smaller number is a smaller loss. Ones and zeros are counted up
to bounds that shrink with the rarer bit; and a bit that comes against many of the other makes most of those forgotten, for
what a context is followed by changes.

    (n0, n1)    (0, 50)   (1, 30)   (2, 12)   (3, 8)   (4, 6)       the largest, also the other way round
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_WHOLE = 4
_MOST = (50, 30, 12, 8, 6)
"""How large the larger count may be, by the smaller."""


class Histories(NamedTuple):
    """The state machine.

    Attributes:
        following: shape ``(256, 2)``, uint8: the state after a 0 and after a 1; 0 is the empty history.
        first: shape ``(256,)``, uint32: what a map starts with for each state, a probability of a 1 in 2**22nds, shifted
            left by 10.
    """

    following: Any
    first: Any


def histories() -> Histories:
    """The states and where they lead."""
    found: dict[Any, None] = {"": None}
    for state in (reached := [""]):
        for after in (_after(state, 0), _after(state, 1)):
            if after not in found:
                found[after] = None
                reached.append(after)
    states = sorted(found, key=lambda state: (sum(_counts(state)), isinstance(state, tuple), state))
    assert len(states) <= 256
    number = {state: n for n, state in enumerate(states)}
    following = np.zeros((256, 2), np.uint8)
    first = np.full(256, 1 << 31, np.uint32)
    for n, state in enumerate(states):
        n0, n1 = _counts(state)
        first[n] = ((2 * n1 + 1) << 22) // (2 * (n0 + n1) + 2) << 10
        for bit in (0, 1):
            following[n, bit] = number[_after(state, bit)]
    return Histories(following, first)


def _counts(state: Any) -> tuple[int, int]:
    return (state.count("0"), state.count("1")) if isinstance(state, str) else state[:2]


def _allowed(n0: int, n1: int) -> bool:
    less, more = sorted((n0, n1))
    return less < len(_MOST) and more <= _MOST[less]


def _after(state: Any, bit: int) -> Any:
    if isinstance(state, str) and len(state) < _WHOLE:
        return state + str(bit)
    n0, n1 = _counts(state)
    same, other = (n1 + 1, _kept(n0)) if bit else (n0 + 1, _kept(n1))
    while not _allowed(same, other):
        same, other = (same - 1, other) if same > other else (same, other - 1)
    return (other, same, bit) if bit else (same, other, bit)


def _kept(count: int) -> int:
    """What is left of a count when the other bit comes."""
    return count if count <= 1 else count.bit_length()
