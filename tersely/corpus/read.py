"""What readers give: batches of documents with their addresses, and the records that are none.

Nothing is skipped in silence: every record of an input is in exactly one batch, as a text or as rejected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

BATCH_BYTES = 4 << 20
"""A batch is given out once it holds this many bytes of text."""

MAX_RECORD_BYTES = 256 << 20
"""A longer record is quarantined instead of read, so that one endless line cannot fill the memory."""

_EXCERPT = 80


@dataclass(frozen=True)
class Rejected:
    """A record that cannot become a document.

    Attributes:
        line: its line (JSON lines), row (Parquet) or 1 (text), counted from 1; 0 if it is the input as a whole.
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
        texts: the documents, some of which may be empty.
        lines: for each text its line, as in ``Rejected``.
        bytes_at: for each text its byte, as in ``Rejected``.
        rejected: the records in between that are no documents.
        repaired: how many texts had lone surrogates, which were replaced with U+FFFD.
        bytes_read: bytes of the input, as stored, that have been read so far.
        complete: False on the last batch of an input that broke off before its end.
    """

    texts: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bytes_at: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    repaired: int = 0
    bytes_read: int = 0
    complete: bool = True

    def add(self, text: str, line: int, byte: int) -> None:
        """Adds a document."""
        self.texts.append(text)
        self.lines.append(line)
        self.bytes_at.append(byte)


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

    def batches(self) -> Iterator[Batch]:
        """All records, in order; an input without records gives no batch or an empty one."""
        ...
