"""Unicode properties from a packaged file, and the paged table that gives the class of a character to compiled code.

``unicode.npz`` holds runs of code points with equal properties. A kind of character is a string such as
``"Lu|ALetter"`` or ``"Zs|WSegSpace|space"``: General_Category (UAX #44, section 5.7.1), Word_Break (UAX #29, section
4.1), and whether it is White_Space or Extended_Pictographic (now, or in Unicode 14: sequences of emoji stay words).
``docs/make_unicode_tables.py`` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PAGE = 64
"""Code points in a page: those that share all but the last byte of their UTF-8 form."""


class Kinds(NamedTuple):
    """What each code point is: ``names[codes[point]]``; ``codes`` has shape ``(0x110000,)``, uint8."""

    names: list[str]
    codes: np.ndarray[Any, Any]
    version: str


class ClassTable(NamedTuple):
    """The class of a code point is ``classes[pages[point // PAGE], point % PAGE]``, uint8; equal pages are one."""

    pages: np.ndarray[Any, Any]
    classes: np.ndarray[Any, Any]

    @property
    def ascii(self) -> np.ndarray[Any, Any]:
        """The classes of the code points below 128, shape ``(128,)``, uint8."""
        return self.classes[self.pages[: 128 // PAGE]].reshape(-1)


@cache
def kinds() -> Kinds:
    """The properties of all code points, read once."""
    with np.load(Path(__file__).with_name("unicode.npz"), allow_pickle=False) as file:
        codes = np.repeat(file["codes"], file["lengths"])
        return Kinds([str(name) for name in file["names"]], codes, str(file["version"]))


def class_table(class_of: Callable[[str], int], exceptions: Mapping[str, int] | None = None) -> ClassTable:
    """The table in which a character has the class that ``class_of`` gives its kind.

    Args:
        class_of: from the name of a kind to a class, 0 to 255.
        exceptions: characters that have another class than the rest of their kind.
    """
    names, codes, _ = kinds()
    classes = np.array([class_of(name) for name in names], np.uint8)[codes]
    for character, own in (exceptions or {}).items():
        classes[ord(character)] = own
    return paged(classes)


def paged(classes: np.ndarray[Any, Any]) -> ClassTable:
    """The table of the classes of all code points, shape ``(0x110000,)``, uint8."""
    known: dict[bytes, int] = {}
    rows = classes.reshape(-1, PAGE)
    pages = [known.setdefault(row.tobytes(), len(known)) for row in rows]
    distinct = np.frombuffer(b"".join(known), np.uint8).reshape(-1, PAGE)
    return ClassTable(np.array(pages, np.uint16), distinct)
