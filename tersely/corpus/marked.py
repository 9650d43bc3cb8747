r"""Documents whose parts differ: in whether the loss is on them, and in whether they may spell special tokens.

    segments   <|im_start|>user\n  hi <|im_end|>   <|im_end|>\n<|im_start|>assistant\n  hello<|im_end|>  \n
    trusted          yes                no                       yes                        yes         yes
    ids          7 "user\n"      "hi <|im_end|>"   8 "\n"   7  "assistant\n"             "hello" 8      "\n"
    trained          no                 no                       no                         yes          no

The text is cut at the special tokens that lie in trusted segments. What is between two of them is encoded in one piece,
whatever segments it is made of, as the libraries of vocabularies do: so the ids are theirs, unless a segment that is not
trusted spells a special token, which here stays text.

A token is trained if any byte that it was made of is: one across the border between a prompt and its completion counts to
the completion.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, groupby, product
from typing import Any, TypeAlias

import numpy as np

from tersely.corpus.read import without_surrogates
from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize import Tokenizer, id_dtype
from tersely.tokenize.specials import SpecialToken, after_special, special_tokens

NO_LABEL = -100
"""The label that losses of torch and transformers leave out."""

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


def encode_marked(
    documents: Sequence[Marked], tok: Tokenizer, bos: bool = False, eos: bool = False
) -> tuple[Ragged, Ragged]:
    """The ids of each document, and for each id whether the loss is on it: bool, at the same offsets.

    Args:
        documents: the documents.
        tok: any tokenizer; one without special tokens that text can spell encodes all text as text.
        bos: open each document with ``bos_id``, unless its text does so itself. It is not trained.
        eos: close each document with ``eos_id``, unless its text does so itself, blanks after it left aside. It is
            trained if the last segment is.

    Raises:
        TokenizeError: as ``tok.encode``, with the index of the document; or the tokens of a document that is trained in
            part cannot be traced to their source.
    """
    tok.encode([], bos=bos, eos=eos)  # refuses to add what the vocabulary lacks
    engine = _engine(tok)
    drafts = [engine.parts(document) for document in documents]
    owners = [number for number, parts in enumerate(drafts) for part in parts if isinstance(part, _Stretch)]
    engine.encode([part for parts in drafts for part in parts if isinstance(part, _Stretch)], owners)
    rows = [_closed(*pair, tok, bos, eos) for pair in zip(drafts, documents, strict=True)]
    ids = Ragged.from_rows([row for row, _ in rows], id_dtype(tok.vocab_size))
    return ids, Ragged.from_rows([flags for _, flags in rows], np.bool_)


def labels_of(ids: Ragged, trained: Ragged) -> Ragged:
    """The labels of each row, int32: the id where it is trained, ``NO_LABEL`` elsewhere.

    They stand at the ids themselves, not one place before: models of transformers shift them.
    """
    return Ragged(np.where(trained.values, ids.values, NO_LABEL).astype(np.int32), ids.offsets)


def count_untrained(trained: Ragged) -> int:
    """How many rows have nothing that the loss is on: they cost time and teach nothing."""
    before = np.concatenate([[0], np.cumsum(trained.values, dtype=np.int64)])
    return int((before[trained.offsets[1:]] == before[trained.offsets[:-1]]).sum())


def without_lone_surrogates(document: Marked) -> tuple[Marked, bool]:
    """The document with each lone surrogate replaced by U+FFFD, and whether there was one."""
    cleaned = [without_surrogates(segment.text) for segment in document]
    if not any(repaired for _, repaired in cleaned):
        return document, False
    pairs = zip(document, cleaned, strict=True)
    return tuple(Segment(text, part.trained, part.trusted) for part, (text, _) in pairs), True


@dataclass(frozen=True)
class _Found:
    """A special token in a document: the characters of its spelling, and those it takes with the blanks around it."""

    id: int
    start: int
    stop: int
    taken_from: int
    taken_to: int


@dataclass
class _Stretch:
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


_Part: TypeAlias = "_Stretch | tuple[int, bool]"  # a special token is its id, and whether it is trained


@dataclass(frozen=True)
class _Engine:
    """A tokenizer, ready to encode what is between special tokens."""

    first: Tokenizer
    later: Tokenizer
    pattern: re.Pattern[str] | None
    tokens: dict[str, SpecialToken]

    def parts(self, document: Marked) -> list[_Part]:
        """The special tokens in trusted text, and the stretches between them."""
        text = "".join(segment.text for segment in document)
        starts = list(accumulate((len(segment.text) for segment in document), initial=0))
        parts: list[_Part] = []
        at = 0
        for found in [*self._found(document, text), None]:
            stop = found.taken_from if found else len(text)
            if at < stop:
                runs = _runs(document, starts, at, stop)
                parts.append(_Stretch(text[at:stop], at > 0, runs))
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

    def encode(self, stretches: list[_Stretch], owners: list[int]) -> None:
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
def _engine(tok: Tokenizer) -> _Engine:
    tokens = {token.spelling: token for token in special_tokens(tok)}
    longest_first = sorted(tokens, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first))) if tokens else None
    return _Engine(tok, after_special(tok), pattern, tokens)


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


def _closed(
    parts: list[_Part], document: Marked, tok: Tokenizer, bos: bool, eos: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The ids of a document and whether each is trained, with what opens and closes it."""
    ids: list[Any] = []
    trained: list[Any] = []
    for part in parts:
        added, flag = (part.ids, part.trained) if isinstance(part, _Stretch) else ([part[0]], part[1])
        ids.append(added)
        trained.append(np.broadcast_to(flag, len(added)))
    whole = np.concatenate([np.empty(0, np.int64), *ids])
    flags = np.concatenate([np.empty(0, np.bool_), *trained])
    lead, trail = (tok.bos_id if bos else None), (tok.eos_id if eos else None)
    if lead is not None and not (len(whole) and whole[0] == lead):
        whole, flags = np.append(lead, whole), np.append(False, flags)
    if trail is not None and not _is_closed(parts, trail):
        whole = np.append(whole, trail)
        flags = np.append(flags, any(segment.trained for segment in document[-1:]))
    return whole, flags


def _is_closed(parts: list[_Part], eos_id: int) -> bool:
    """Whether the last of a document is its closing token, blanks left aside."""
    for part in reversed(parts):
        if not isinstance(part, _Stretch):
            return part[0] == eos_id
        if part.text.strip():
            return False
    return False
