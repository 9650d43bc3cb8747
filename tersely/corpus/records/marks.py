r"""Marks around parts of a text, to find them again in what a template makes of it.

marked    "hi </s>"  ->  "hi <</s>>"   -- template -->   "user: hi <</s>>\n"
unmarked                                                  "user: hi </s>\n", characters 9 to 13
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from tersely.corpus.records.protocol import NotADocument

START, STOP = "\ufdd0", "\ufdd1"
"""The marks: code points that Unicode keeps for such inner use, so that no text needs them."""

OTHER_START = "\ufdd2"
"""Stands for ``START`` where two kinds of ranges must be told apart."""

Range: TypeAlias = tuple[int, int]
"""The first character and the one after the last."""


def check_unmarked(text: str) -> str:
    """The text; raises NotADocument if it has a mark."""
    if START in text or STOP in text or OTHER_START in text:
        raise NotADocument("it has a noncharacter of U+FDD0 to U+FDD2, by which turns are told apart here")
    return text


def marked(text: str, ranges: Sequence[Range], mark: str = START) -> str:
    """The text with marks around these ranges, which are in order and do not touch."""
    parts: list[str] = []
    at = 0
    for start, stop in ranges:
        parts += [text[at:start], mark, text[start:stop], STOP]
        at = stop
    return "".join([*parts, text[at:]])


def unmarked(text: str) -> tuple[str, list[Range]] | None:
    """The text without its marks, and the ranges that were between them; None if a mark has lost its fellow."""
    parts: list[str] = []
    ranges: list[Range] = []
    at = 0
    head, *rest = text.split(START)
    parts.append(head)
    at = len(head)
    for piece in rest:
        inner, mark, after = piece.partition(STOP)
        if not mark or STOP in after:
            return None
        ranges.append((at, at + len(inner)))
        parts += [inner, after]
        at += len(inner) + len(after)
    return None if STOP in head else ("".join(parts), ranges)


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The ranges in order, those that touch as one."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined
