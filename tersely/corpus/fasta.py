"""Sequences of DNA, RNA or protein from FASTA: one document a record, its header beside it.

    >chr1 Homo sapiens      the header, a field
    NNACGT                  the lines of the sequence; the document is NNACGTacgt
    acgt                    (case is kept: lower case marks repeats)

White space within a sequence is layout and left out, as are blank lines. Lines that begin with ``;`` are comments, as
in W. R. Pearson's FASTA, and left out too. Costs a few passes over the bytes, none of them a loop over lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tersely.corpus.files import ByteStream
from tersely.corpus.read import BATCH_BYTES, Batch, Rejected

HEADER = "header"
"""The field that holds a record's header line, without its ``>`` and the white space around it."""

MAX_FASTA_BYTES = 1 << 30
"""A longer record is rejected. Whole chromosomes are long: 0.25 GB in humans, 0.85 GB in wheat."""

_BOM = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n\v\f"
_COMMENT = re.compile(rb"^;.*", re.MULTILINE)
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


@dataclass
class _Record:
    """What stands behind a ``>`` that begins a line, up to the next one; or (``line`` 0) before the first.

    ``parts`` are its bytes in the pieces they came in, of a record above the limit only the first; ``fault`` says why
    the stream broke off in it.
    """

    line: int
    byte: int
    parts: list[bytes] = field(default_factory=list[bytes])
    length: int = 0
    newlines: int = 0
    fault: str = ""

    def take(self, part: bytes) -> None:
        if self.length <= MAX_FASTA_BYTES:
            self.parts.append(part)
        self.length += len(part)
        self.newlines += part.count(b"\n")

    def next(self) -> _Record:
        """The record whose ``>`` follows this one and a newline."""
        return _Record(self.line + self.newlines + 1, self.byte + self.length + 2)


class _NotADocument(Exception):
    """Carries the reason why a record is no document."""


def fasta_batches(stream: ByteStream, fields: Sequence[str] = (HEADER,)) -> Iterator[Batch]:
    """The records of a FASTA stream, each with its header as the field ``header``; any other field is "".

    A record without a sequence is an empty document. Rejected alone are text before the first ``>``, a sequence that
    is not ASCII, a header that is not UTF-8, and a record above ``MAX_FASTA_BYTES``, of which only the beginning is
    held in memory. Where the stream breaks off, the record it broke in is rejected.
    """
    batch, size, end = Batch.carrying(fields), 0, 0
    for record in _records(stream):
        _add(batch, record)
        size += record.length
        end = record.next().byte
        if size >= BATCH_BYTES or len(batch.rejected) >= 10_000:
            batch.bytes_read = stream.stored(end)
            yield batch
            batch, size = Batch.carrying(fields), 0
    batch.complete = not stream.fault
    batch.bytes_read = stream.stored(end)
    yield batch


def _records(stream: ByteStream) -> Iterator[_Record]:
    """What stands before the first ``>``, maybe nothing, then every record."""
    record = _Record(0, -2)
    held = b"\n"  # a ">" at the start of the input or of a block begins a line if a newline was before it
    for block in stream.blocks():
        if record.byte == -2 and not record.length and block.startswith(_BOM):
            block, record.byte = block[len(_BOM) :], record.byte + len(_BOM)
        block = held + block
        held = b"\n" if block.endswith(b"\n") else b""
        block = block[: len(block) - len(held)]
        parts = block.split(b"\n>") if b">" in block else [block]
        record.take(parts[0])
        for part in parts[1:]:
            yield record
            record = record.next()
            record.take(part)
    record.fault = stream.fault
    yield record


def _add(batch: Batch, record: _Record) -> None:
    """Adds a record as a document or as rejected; blank lines and comments before the first one are neither."""
    raw = b"".join(record.parts)
    line, byte = max(record.line, 1), max(record.byte, 0)
    if record.fault or record.length > MAX_FASTA_BYTES:
        reason = f"the record has {record.length} bytes, above the limit of {MAX_FASTA_BYTES}"
        excerpt = raw[:80].decode("utf-8", "backslashreplace")
        batch.rejected.append(Rejected(line, byte, record.fault or reason, excerpt=excerpt))
        return
    try:
        if record.line:
            header, sequence = _header_and_sequence(raw)
            batch.add(sequence, line, byte, [header if name == HEADER else "" for name in batch.fields])
        elif _letters(raw):
            raise _NotADocument("text before the first header, a line that begins with '>'")
    except _NotADocument as reason:
        found = b">" + raw if record.line else raw[1:]  # its first byte is a newline that the input has not
        batch.rejected.append(Rejected.of(found, line, byte, str(reason)))


def _header_and_sequence(raw: bytes) -> tuple[str, str]:
    line, _, body = raw.partition(b"\n")
    try:
        header = line.decode()
    except UnicodeDecodeError as error:
        raise _NotADocument(f"invalid UTF-8 at byte {error.start + 1} of the header") from None
    letters = _letters(body)
    if wrong := None if letters.isascii() else _NOT_ASCII.search(letters):
        raise _NotADocument(
            f"letter {wrong.start() + 1} of the sequence is byte 0x{wrong[0].hex()}, not ASCII"
        )
    return header.strip(), letters.decode("ascii")


def _letters(lines: bytes) -> bytes:
    """Lines without comments and white space, in one piece."""
    return (_COMMENT.sub(b"", lines) if b";" in lines else lines).translate(None, _WHITE)
