r"""The words of OpenAI's cl100k pattern, as an automaton.

    '(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+
    |\s++$|\s*[\r\n]|\s+(?!\S)|\s

(tiktoken, ``openai_public.py``.) In words: letters take one character before them that is no letter, number or
newline; numbers come in threes; other characters take one blank before them and the newlines after them. Of a run of
white space, all up to its last newline is a word, then all but its last character, which is left to what follows it;
at the end of the document the whole run is one word. A contraction ends its word, in capitals too, and with the long
s, U+017F, which is an s to a pattern that ignores case.
"""

from __future__ import annotations

from enum import IntEnum, auto
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from tersely.tokenize.words.automaton import Action, Automaton, build, run
from tersely.tokenize.words.tables import class_table


class _Class(IntEnum):
    OTHER = 0
    APOSTROPHE = auto()
    NUMBER = auto()
    NEWLINE = auto()
    BLANK = auto()
    SPACE = auto()
    """White space other than the blank and the newlines."""
    LETTER = auto()
    """And these are letters in which contractions are spelled: s, d, m or t; and each of the rest."""
    SHORT = auto()
    L = auto()
    V = auto()
    R = auto()
    E = auto()


_State: TypeAlias = tuple[str, ...]
_SPELLED = {"'": _Class.APOSTROPHE, "\r": _Class.NEWLINE, "\n": _Class.NEWLINE, " ": _Class.BLANK} | {
    character: kind
    for letters, kind in (
        ("sdmtSDMT\u017f", _Class.SHORT),
        ("lL", _Class.L),
        ("vV", _Class.V),
        ("rR", _Class.R),
        ("eE", _Class.E),
    )
    for character in letters
}


def mark(data: np.ndarray[Any, Any], documents: np.ndarray[Any, Any], flags: np.ndarray[Any, Any]) -> None:
    """Sets ``flags[i]``, uint8, to whether a word starts at byte ``i`` of ``data``; ``documents`` are offsets."""
    run(_automaton(), data, documents, flags)


@cache
def _automaton() -> Automaton:
    return build(_step, ("start",), len(_Class), class_table(_class_of, _SPELLED))


def _class_of(kind: str) -> int:
    if "space" in kind:
        return _Class.SPACE
    return {"L": _Class.LETTER, "N": _Class.NUMBER}.get(kind[0], _Class.OTHER)


def _step(state: _State, kind: int) -> tuple[_State, Action]:
    """The rule, in states named after what was read last.

    ``letters``; ``end``, a whole contraction; ``number`` with how many digits of the three;
    ``first``, one other character that starts a word, and ``quote``, if it is an apostrophe;
    ``quote``, l, v or r: the first letter of a contraction of two;
    ``others``, more of them, or one after a blank; ``closed``, newlines after them;
    ``newline``, white space that ends in a newline; ``space``, white space that does not.
    """
    if kind >= _Class.LETTER:
        return _letter(state, kind)
    if kind == _Class.NEWLINE:
        if state[0] in ("first", "quote", "others", "closed") and len(state) == 1:
            return ("closed",), Action.NONE
        return ("newline",), Action.NONE if state[0] in ("newline", "space") else Action.START
    if kind in (_Class.BLANK, _Class.SPACE):
        return _space(state, "blank" if kind == _Class.BLANK else "wide")
    if kind == _Class.NUMBER:
        if state in (("number", "1"), ("number", "2")):
            return ("number", "2" if state[1] == "1" else "3"), Action.NONE
        return ("number", "1"), Action.START | _after_space(state)
    if state in (("first",), ("quote",), ("others",)):
        return ("others",), Action.NONE
    if state[0] == "space" and state[1] == "blank":
        return ("others",), _after_space(state)
    return ("quote" if kind == _Class.APOSTROPHE else "first",), Action.START | _after_space(state)


def _letter(state: _State, kind: int) -> tuple[_State, Action]:
    if state == ("quote",):
        if kind == _Class.SHORT:
            return ("end",), Action.NONE
        second = {_Class.L: "l", _Class.V: "v", _Class.R: "r"}.get(_Class(kind))
        return ("quote", second) if second else ("letters",), Action.NONE
    if state[0] == "quote":
        closing = _Class.L if state[1] == "l" else _Class.E
        return ("end",) if kind == closing else ("letters",), Action.NONE
    if state in (("letters",), ("first",)):
        return ("letters",), Action.NONE
    if state[0] == "space":
        return ("letters",), _after_space(state)
    return ("letters",), Action.START


def _space(state: _State, kind: str) -> tuple[_State, Action]:
    """White space but newlines: ``("space", kind of the last, how many, what came before in the run)``.

    Whether the last character of a run starts a word shows when the run is over, so its place is A; the place after
    the last newline is B.
    """
    if state[0] == "newline":
        return ("space", kind, "one", "newline"), Action.REMEMBER_A | Action.REMEMBER_B
    if state[0] == "space":
        return ("space", kind, "more", state[3]), Action.REMEMBER_A
    return ("space", kind, "one", "start"), Action.START


def _after_space(state: _State) -> Action:
    """What a character that is no space tells about the white space before it."""
    if state[0] != "space" or state[2:] == ("one", "start"):
        return Action.NONE
    return Action.SET_A | (Action.SET_B if state[2:] == ("more", "newline") else Action.NONE)
