"""Unicode's default word boundaries, UAX #29 section 4.1 (WB1 to WB999), as an automaton.

Every character belongs to a word, white space and punctuation too; rule numbers stand at the lines that carry them
out. ``reference.py`` has the same rules looking back and forth, as the annex writes them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tersely.tokenize.words.automaton import Action, Automaton, build, run
from tersely.tokenize.words.tables import class_table, kinds

NEWLINES = {"CR", "LF", "Newline"}
IGNORED = {"Extend", "Format", "ZWJ"}
LETTERS = {"ALetter", "Hebrew_Letter"}
INSIDE_WORDS = {"MidLetter", "MidNumLet", "Single_Quote"}
INSIDE_NUMBERS = {"MidNum", "MidNumLet", "Single_Quote"}
JOINED_BY_CONNECTORS = LETTERS | {"Numeric", "Katakana"}


class _State(NamedTuple):
    last: str = ""
    """The Word_Break value of the last character that WB4 does not ignore; empty at the start."""
    raw: str = ""
    """That of the last character, where WB3, WB3c or WB3d ask for it."""
    held: str = ""
    """If ``last`` may stand inside a word or number: the value before it, when it may go on there."""
    odd: bool = False
    """Whether ``last`` is the first regional indicator of a pair."""


def mark(data: np.ndarray[Any, Any], documents: np.ndarray[Any, Any], flags: np.ndarray[Any, Any]) -> None:
    """Sets ``flags[i]``, uint8, to whether a word starts at byte ``i`` of ``data``; ``documents`` are offsets."""
    run(_automaton(), data, documents, flags)


@cache
def _automaton() -> Automaton:
    classes = sorted({word_break(kind) for kind in kinds().names})
    numbers = {value: number for number, value in enumerate(classes)}

    def step(state: _State, kind: int) -> tuple[_State, Action]:
        return _step(state, *classes[kind])

    return build(step, _State(), len(classes), class_table(lambda kind: numbers[word_break(kind)]))


def word_break(kind: str) -> tuple[str, bool]:
    """The Word_Break value of a kind of character, and whether it is Extended_Pictographic."""
    return kind.split("|")[1], "pictographic" in kind


def _step(state: _State, value: str, pictographic: bool) -> tuple[_State, Action]:
    raw = value if value in {"ZWJ", "WSegSpace", "CR"} else ""
    if value in IGNORED and state.last and state.last not in NEWLINES:
        return state._replace(raw=raw), Action.NONE  # WB4
    kept = _State(value, raw)
    if state.raw == "CR" and value == "LF":
        return kept, Action.NONE  # WB3
    if not state.last or state.last in NEWLINES or value in NEWLINES:
        return _opened(kept), Action.START  # WB1, WB3a, WB3b
    if value in _expected(state):
        return (
            kept,
            Action.CLEAR_A,
        )  # WB6, WB7, WB7b, WB7c, WB11, WB12; some letters are pictographic, so before WB3c
    if state.raw == "ZWJ" and pictographic:
        return kept, Action.NONE  # WB3c
    if state.raw == "WSegSpace" == value:
        return kept, Action.NONE  # WB3d
    return _with_last(state, kept)


def _expected(state: _State) -> set[str]:
    """The values that make the last character, held open, one inside a word or number."""
    if not state.held:
        return set()
    if state.last == "Double_Quote":
        return {"Hebrew_Letter"}
    return LETTERS if state.held in LETTERS else {"Numeric"}


def _opened(state: _State) -> _State:
    return state._replace(odd=state.last == "Regional_Indicator")


def _with_last(state: _State, kept: _State) -> tuple[_State, Action]:
    """The rules that look at the last character only, and those that hold a place open for the next one."""
    last, value = state.last, kept.last
    if value in JOINED_BY_CONNECTORS - {"Katakana"} and last in JOINED_BY_CONNECTORS - {"Katakana"}:
        return kept, Action.NONE  # WB5, WB8, WB9, WB10
    if last == "Katakana" == value:
        return kept, Action.NONE  # WB13
    if value == "ExtendNumLet" and last in JOINED_BY_CONNECTORS | {"ExtendNumLet"}:
        return kept, Action.NONE  # WB13a
    if last == "ExtendNumLet" and value in JOINED_BY_CONNECTORS:
        return kept, Action.NONE  # WB13b
    if last == "Regional_Indicator" == value and state.odd:
        return kept, Action.NONE  # WB15, WB16
    if last in LETTERS and value in INSIDE_WORDS:
        if last == "Hebrew_Letter" and value == "Single_Quote":
            return kept._replace(held=last), Action.REMEMBER_A  # WB7a
        return kept._replace(held=last), Action.START | Action.REMEMBER_A  # WB6
    if last == "Hebrew_Letter" and value == "Double_Quote":
        return kept._replace(held=last), Action.START | Action.REMEMBER_A  # WB7b
    if last == "Numeric" and value in INSIDE_NUMBERS:
        return kept._replace(held=last), Action.START | Action.REMEMBER_A  # WB12
    return _opened(kept), Action.START  # WB999
