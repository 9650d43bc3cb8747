"""Documents of segments, cut into special tokens and the stretches of text between them, and those encoded."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, groupby, product
from typing import Any, TypeAlias

import numpy as np

from tersely.errors import TokenizeError
from tersely.tokenize import Tokenizer
from tersely.tokenize.specials import SpecialToken, after_special, special_tokens

_BLANK = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)  # White_Space of Unicode, which is what the libraries go by
_BLANKS = re.compile(f"[{_BLANK}]*")
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class Segment:
    """A part of a document.

    Attributes:
        text: its text; what it looks like next to its neighbours is up to the tokenizer.
        trained: whether its tokens are targets of the loss.
        trusted: whether special tokens spelled in it, or across it and trusted neighbours, become special tokens.
    """

    text: str
    trained: bool
    trusted: bool


Marked: TypeAlias = tuple[Segment, ...]
"""A document made of segments."""


@dataclass(frozen=True)
class _Found:
    """A special token in a document: the characters of its spelling, and those it takes with the blanks around it."""

    id: int
    start: int
    stop: int
    taken_from: int
    taken_to: int


@dataclass
class Stretch:
    """Text between two special tokens, as runs of bytes that are trained or not; and what became of it."""

    text: str
    continued: bool
    runs: list[tuple[int, bool]]
    ids: Any = None
    trained: Any = None

    @property
    def mixed(self) -> bool:
        """Whether only a part of it is trained."""
        return len({trained for size, trained in self.runs if size}) > 1


Part: TypeAlias = "Stretch | tuple[int, bool]"  # a special token is its id, and whether it is trained


@dataclass(frozen=True)
class Stretcher:
    """A tokenizer, ready to encode what is between special tokens."""

    first: Tokenizer
    later: Tokenizer
    pattern: re.Pattern[str] | None
    tokens: dict[str, SpecialToken]

    def parts(self, document: Marked) -> list[Part]:
        """The special tokens in trusted text, and the stretches between them."""
        text = "".join(segment.text for segment in document)
        starts = list(accumulate((len(segment.text) for segment in document), initial=0))
        parts: list[Part] = []
        at = 0
        for found in [*self._found(document, text), None]:
            stop = found.taken_from if found else len(text)
            if at < stop:
                runs = _runs(document, starts, at, stop)
                parts.append(Stretch(text[at:stop], at > 0, runs))
            if found:
                spelled = _runs(document, starts, found.start, found.stop)
                parts.append((found.id, any(trained for _, trained in spelled)))
                at = found.taken_to
        return parts

    def _found(self, document: Marked, text: str) -> Iterator[_Found]:
        """From left to right, at each place the longest; blanks go to the token before rather than to that after."""
        free_from = 0
        for first, last in _trusted_runs(document):
            for match in self.pattern.finditer(text, first, last) if self.pattern else ():
                token, (start, stop) = self.tokens[match[0]], match.span()
                touching = text[max(start - 1, 0) : start] + text[stop : stop + 1]
                if token.single_word and _WORD.search(touching):
                    continue
                taken_from, taken_to = start, stop
                if token.lstrip:
                    taken_from = free_from + len(text[free_from:start].rstrip(_BLANK))
                if token.rstrip and (blanks := _BLANKS.match(text, stop)):
                    taken_to = blanks.end()
                yield _Found(token.id, start, stop, taken_from, taken_to)
                free_from = taken_to

    def encode(self, stretches: list[Stretch], owners: list[int]) -> None:
        """Fills in the ids of the stretches; ``owners`` are their documents, for errors."""
        for continued, mixed in product((False, True), repeat=2):
            chosen = [
                number
                for number, stretch in enumerate(stretches)
                if (stretch.continued, stretch.mixed) == (continued, mixed)
            ]
            tok = self.later if continued else self.first
            texts = [stretches[number].text for number in chosen]
            try:
                if mixed:
                    rows, spans = tok.encode_with_offsets(texts)
                else:
                    rows = spans = tok.encode(texts)
            except TokenizeError as error:
                if error.document is None:
                    raise
                document = owners[chosen[error.document]]
                reason = str(error).removeprefix(f"document {error.document} ")
                raise TokenizeError(f"document {document} {reason}", document) from error
            for number, ids, ranges in zip(chosen, rows, spans, strict=True):
                stretch = stretches[number]
                stretch.ids = ids
                stretch.trained = _trained_tokens(stretch.runs, ranges) if mixed else stretch.runs[0][1]


@lru_cache(maxsize=2)
def stretcher(tok: Tokenizer) -> Stretcher:
    """The stretcher of a tokenizer; that of the last ones is kept, since some cost a loading of the vocabulary."""
    tokens = {token.spelling: token for token in special_tokens(tok)}
    longest_first = sorted(tokens, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first))) if tokens else None
    return Stretcher(tok, after_special(tok), pattern, tokens)


def _trusted_runs(document: Marked) -> Iterator[tuple[int, int]]:
    """The longest ranges of characters of which all are trusted."""
    at = 0
    for trusted, segments in groupby(document, lambda segment: segment.trusted):
        size = sum(len(segment.text) for segment in segments)
        if trusted:
            yield at, at + size
        at += size


def _runs(document: Marked, starts: list[int], first: int, last: int) -> list[tuple[int, bool]]:
    """How many bytes of each segment are in a range of characters, and whether they are trained."""
    runs: list[tuple[int, bool]] = []
    number = bisect_right(starts, first) - 1
    while number < len(document) and starts[number] < last:
        part = document[number].text[max(first - starts[number], 0) : last - starts[number]]
        size = len(part) if part.isascii() else len(part.encode("utf-8", "surrogatepass"))
        runs.append((size, document[number].trained))
        number += 1
    return [run for run in runs if run[0]]


def _trained_tokens(runs: list[tuple[int, bool]], spans: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whether any byte of each token is trained; of a token without bytes, whether the byte after it is."""
    sizes, flags = zip(*runs, strict=True)
    before = np.concatenate([[0], np.cumsum(np.repeat(flags, sizes))])
    starts = np.minimum(spans[:, 0], len(before) - 2)
    return before[np.maximum(spans[:, 1], starts + 1)] > before[starts]
