"""Rules with memory: a function from state and class to state and action, made into a table that one loop runs.

A rule such as UAX #29 needs to know a little of what came before, and sometimes only learns later whether a word
started. So a step may set the flag of the present character, remember its place (two memories, ``A`` and ``B``), and
set or clear the flag of a remembered place. That is all, so the loop costs the same few cycles a byte for any rule.

    "a.b" under UAX #29:   a START   . START, REMEMBER_A   b CLEAR_A        -> one word
    "a. b"                 a START   . START, REMEMBER_A   blank START ...  -> the break before the dot stays
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import IntFlag
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np

from tersely.tokenize.words.decode import WIDE, decode_wide
from tersely.tokenize.words.tables import ClassTable

CLASSES = 64
"""How many classes a rule may have, the last one taken by ``REST``."""
REST = CLASSES - 1
"""The class of the bytes of a character after its first: nothing happens there."""

_State = TypeVar("_State", bound=Hashable)


class Action(IntFlag):
    """What happens at a character."""

    NONE = 0
    START = 1
    """A word starts here."""
    REMEMBER_A = 2
    """This place is A from now on."""
    REMEMBER_B = 4
    """This place is B from now on."""
    SET_A = 8
    """A word started at A, after all."""
    SET_B = 16
    """A word started at B, after all."""
    CLEAR_A = 32
    """No word started at A, after all."""


class Automaton(NamedTuple):
    """A rule as tables over ``state * CLASSES + class``, and the classes of characters."""

    following: np.ndarray[Any, Any]
    """The next state, times ``CLASSES``; uint16."""
    actions: np.ndarray[Any, Any]
    """The action; uint8."""
    ascii: np.ndarray[Any, Any]
    """The class of each byte below 128, else ``WIDE``; shape ``(256,)``, uint8."""
    table: ClassTable
    """The class of each character."""


def build(
    step: Callable[[_State, int], tuple[_State, Action]], start: _State, classes: int, table: ClassTable
) -> Automaton:
    """Follows ``step`` from ``start`` until no state is new.

    Args:
        step: the rule: the state before a character and the character's class, to the state after it and the action.
        start: the state at the beginning of a document.
        classes: how many classes there are, below ``REST``.
        table: the classes of characters.
    """
    numbers, states = {start: 0}, [start]
    following, actions = [], []
    for state in states:  # grows while it is walked
        row = np.full(CLASSES, numbers[state] * CLASSES, np.uint16)  # the rest of a character changes nothing
        acts = np.zeros(CLASSES, np.uint8)
        for kind in range(classes):
            after, action = step(state, kind)
            if after not in numbers:
                numbers[after] = len(states)
                states.append(after)
            row[kind], acts[kind] = numbers[after] * CLASSES, int(action)
        following.append(row)
        actions.append(acts)
    low = np.concatenate([table.ascii, np.full(128, WIDE, np.uint8)])
    return Automaton(np.concatenate(following), np.concatenate(actions), low, table)


def run(
    automaton: Automaton,
    data: np.ndarray[Any, Any],
    documents: np.ndarray[Any, Any],
    flags: np.ndarray[Any, Any],
) -> None:
    """Sets ``flags[i]``, uint8, to whether a word starts at byte ``i`` of ``data``; ``documents`` are offsets."""
    classes = np.empty((len(data) + 7) // 8 * 8, np.uint8)
    classes[len(data) :] = 0
    _look_up(data, automaton.ascii, classes)
    table = automaton.table
    decode_wide(data, documents, table.pages, table.classes, _ALL_REST, classes)
    _walk(classes, documents, automaton.following, automaton.actions, flags)


_ALL_REST = np.full(256, REST, np.uint8)


@numba.njit(cache=True, nogil=True)
def _look_up(data: Any, table: Any, classes: Any) -> None:
    for i in range(data.size):
        classes[i] = table[data[i]]


@numba.njit(cache=True, nogil=True)
def _walk(classes: Any, documents: Any, following: Any, actions: Any, flags: Any) -> None:
    """Runs the automaton over each document, from its start state 0."""
    for document in range(documents.size - 1):
        begin = documents[document]
        state, a, b = np.uint64(0), begin, begin
        for i in range(begin, documents[document + 1]):
            at = state + np.uint64(classes[i])
            action = actions[at]
            state = np.uint64(following[at])
            flags[i] = action & 1
            if action & 6:
                a = i if action & 2 else a
                b = i if action & 4 else b
            if action & 56:
                if action & 8:
                    flags[a] = 1
                if action & 16:
                    flags[b] = 1
                if action & 32:
                    flags[a] = 0
