"""What readers give: batches of documents with their addresses, and the records that are none.

Nothing is skipped in silence: every record of an input is in exactly one batch, as a text or as rejected.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from tersely.corpus.stretches import Marked

BATCH_BYTES = 4 << 20
"""A batch is given out once it holds this many bytes of text."""

MAX_RECORD_BYTES = 256 << 20
"""A longer record is quarantined instead of read, so that one endless line cannot fill the memory."""

BATCH_REJECTS = 10_000
"""A batch is given out once it holds this many rejected records, so that a file of nothing else fits the memory."""

BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8; no part of the text where an input begins with it."""

_EXCERPT = 80
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


Document: TypeAlias = "str | bytes | Marked"
"""A text, the bytes of one that is not UTF-8, or one of segments, some of which are trained on."""


class OnInvalid(StrEnum):
    """What becomes of a document whose bytes are not UTF-8."""

    QUARANTINE = "quarantine"
    """It is rejected, with the place of the first wrong byte."""
    REPLACE = "replace"
    """What is wrong becomes U+FFFD, as the Unicode standard (section 3.9) recommends; ``Batch.repaired`` counts it."""
    BYTES = "bytes"
    """It is given as its bytes; all other documents remain strings."""


@dataclass(frozen=True)
class Span:
    """A part of one input that can be read alone: bytes (JSON lines, FASTA) or row groups (Parquet), half open.

    A record belongs to the span that its first byte lies in.
    """

    start: int
    stop: int


@dataclass(frozen=True)
class Rejected:
    """A record that cannot become a document.

    Attributes:
        line: its line (JSON lines, FASTA), row (Parquet) or 1 (text), counted from 1 at the beginning of the span.
        byte: where it starts in the uncompressed input, counted from 0; -1 where the format has no such place.
        reason: one clause that says what is wrong with it.
        sha256: of its bytes, to find it again; empty where they were not all in hand.
        excerpt: how it begins.
    """

    line: int
    byte: int
    reason: str
    sha256: str = ""
    excerpt: str = ""

    @classmethod
    def of(cls, record: bytes | memoryview, line: int, byte: int, reason: str) -> Rejected:
        """With hash and excerpt taken from the record's bytes."""
        excerpt = bytes(record[:_EXCERPT]).decode("utf-8", "backslashreplace")
        return cls(line, byte, reason, hashlib.sha256(record).hexdigest(), excerpt)


@dataclass
class Batch:
    """Some consecutive records of an input.

    Attributes:
        texts: the documents, some of which may be empty; bytes only under ``OnInvalid.BYTES``, segments only of
            records that are more than a text.
        lines: for each text its line, as in ``Rejected``.
        bytes_at: for each text its byte, as in ``Rejected``.
        fields: for each field that was asked for, its value for each text, "" where the record has none.
        rejected: the records in between that are no documents.
        repaired: how many texts had lone surrogates or, under ``OnInvalid.REPLACE``, bytes that are not UTF-8, which
            were replaced with U+FFFD.
        bytes_read: bytes of the span, as stored, that have been read so far.
        lines_read: lines (Parquet: rows) of the span that have been read so far, blank and rejected ones included.
        fault: on the last batch of an input that cannot be read to its end, why; else empty.
    """

    texts: list[Document] = field(default_factory=list["Document"])
    lines: list[int] = field(default_factory=list)
    bytes_at: list[int] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    rejected: list[Rejected] = field(default_factory=list)
    repaired: int = 0
    bytes_read: int = 0
    lines_read: int = 0
    fault: str = ""

    @property
    def complete(self) -> bool:
        """Whether the input did not break off here."""
        return not self.fault

    @property
    def strings(self) -> list[str]:
        """The texts, with U+FFFD for what is not UTF-8 in those that are bytes."""
        return [
            text if isinstance(text, str) else raw_bytes(text).decode("utf-8", "replace")
            for text in self.texts
        ]

    @classmethod
    def carrying(cls, fields: Sequence[str]) -> Batch:
        """An empty batch that takes these fields beside each text."""
        return cls(fields={name: [] for name in fields})

    def without(self, texts: Iterable[int]) -> Batch:
        """The batch but for the texts of these numbers."""
        left_out = set(texts)
        kept = [number for number in range(len(self.texts)) if number not in left_out]
        return replace(
            self,
            texts=[self.texts[number] for number in kept],
            lines=[self.lines[number] for number in kept],
            bytes_at=[self.bytes_at[number] for number in kept],
            fields={name: [column[number] for number in kept] for name, column in self.fields.items()},
        )

    def add(self, text: Document, line: int, byte: int, values: Sequence[str] = ()) -> None:
        """Adds a document; ``values`` are one for each field, in the order of ``fields``."""
        self.texts.append(text)
        self.lines.append(line)
        self.bytes_at.append(byte)
        for column, value in zip(self.fields.values(), values, strict=True):
            column.append(value)

    def add_raw(
        self, content: bytes, line: int, byte: int, values: Sequence[str], on_invalid: OnInvalid
    ) -> None:
        """Adds a document that should be UTF-8; if it is not, what becomes of it is ``on_invalid``'s to say."""
        try:
            self.add(content.decode(), line, byte, values)
        except UnicodeDecodeError as error:
            if on_invalid is OnInvalid.QUARANTINE:
                reason = f"invalid UTF-8 at byte {error.start}{like_utf16(content)}"
                self.rejected.append(Rejected.of(content, line, byte, reason))
            elif on_invalid is OnInvalid.BYTES:
                self.add(content, line, byte, values)
            else:
                self.add(content.decode("utf-8", "replace"), line, byte, values)
                self.repaired += 1


def raw_bytes(text: Document) -> bytes:
    """A document as bytes of UTF-8, or as those it is."""
    if isinstance(text, bytes):
        return text
    whole = text if isinstance(text, str) else "".join(segment.text for segment in text)
    return whole.encode("utf-8", "replace")


class Source(Protocol):
    """One input of a corpus."""

    @property
    def name(self) -> str:
        """What people call it: a path, or a phrase."""
        ...

    @property
    def size(self) -> int:
        """Bytes as stored, 0 if unknown."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """The names in ``Batch.fields`` of its batches, the same in each."""
        ...

    def spans(self, target: int) -> list[Span | None]:
        """Consecutive parts of about ``target`` stored bytes, which together are the input; ``[None]`` is all of it.

        They depend on the input and ``target`` alone.
        """
        ...

    def batches(self, span: Span | None = None) -> Iterator[Batch]:
        """All records of the span, or of the input, in order; at least one batch, maybe empty."""
        ...


def as_field(value: Any) -> str:
    """A value of a record as the string that a field holds.

    Strings stay as they are but for lone surrogates, which become U+FFFD, as does what is not UTF-8 in bytes; null is
    "", as is what is nested too deep (about a thousand levels); numbers, booleans, arrays and objects are JSON text; dates
    and the like are in Python's spelling.
    """
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool | int | float | list | dict):
        try:
            value = json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError:
            return ""
    return without_surrogates(str(value))[0]


def visible(text: str) -> str:
    r"""For people's eyes: what would move a terminal's cursor, break the line or turn the reading order around is spelled
    as Python does, such as ``\x1b``.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def like_utf16(content: bytes) -> str:
    """The way out, to append to a reason, if content that is not UTF-8 begins with the byte order mark of UTF-16."""
    is_like = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return "; it begins like UTF-16: write it as UTF-8, as iconv -f UTF-16 -t UTF-8 does" if is_like else ""


def without_surrogates(text: str) -> tuple[str, bool]:
    """The text with each lone surrogate replaced by U+FFFD, and whether there was one."""
    if text.isascii():
        return text, False
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), True
    return text, False
