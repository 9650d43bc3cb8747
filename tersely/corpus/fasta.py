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
from itertools import accumulate

from tersely.corpus.files import ByteStream
from tersely.corpus.read import BATCH_BYTES, BATCH_REJECTS, BOM, Batch, OnInvalid, Rejected, Span
from tersely.corpus.records import NotADocument

HEADER = "header"
"""The field that holds a record's header line, without its ``>`` and the white space around it."""

MAX_FASTA_BYTES = 1 << 30
"""A longer record is rejected. Whole chromosomes are long: 0.25 GB in humans, 0.85 GB in wheat."""

_WHITE = b" \t\r\n\v\f"
_OLD_MAC = "its lines end in carriage returns alone: write newlines, for example with tr '\\r' '\\n'"
_COMMENT = re.compile(rb"^;.*", re.MULTILINE)


@dataclass(slots=True)
class _Record:
    """What stands behind a ``>`` that begins a line, up to the next one; or (``line`` 0) before the first; or (``foreign``)
    before the first of a span, which is the end of a record that began before it.

    ``parts`` are its bytes in the pieces they came in, of a record above the limit only the first.
    """

    line: int
    byte: int
    parts: list[bytes] = field(default_factory=list[bytes])
    length: int = 0
    newlines: int = 0
    foreign: bool = False

    def take(self, part: bytes, limit: int) -> None:
        if self.length <= limit and not self.foreign:
            self.parts.append(part)
        self.length += len(part)
        self.newlines += part.count(b"\n")
        if self.foreign:
            self.line = -self.newlines  # so that the record behind it is at line 1

    def followed_by(self, part: bytes, between: Sequence[bytes] = ()) -> _Record:
        """The record that begins with ``part``, behind this one and the records ``between``."""
        byte = self.byte + self.length + 2 + sum(len(other) + 2 for other in between)
        return _Record(self.last_line(between) + 1, byte, [part], len(part), part.count(b"\n"))

    def last_line(self, others: Sequence[bytes]) -> int:
        """The last line of the records ``others``, which are behind this one."""
        return self.line + self.newlines + sum(other.count(b"\n") + 1 for other in others)


@dataclass(frozen=True)
class _Rules:
    """What is a document."""

    on_invalid: OnInvalid
    most_bytes: int


def fasta_batches(
    stream: ByteStream,
    fields: Sequence[str] = (HEADER,),
    *,
    span: Span | None = None,
    on_invalid: OnInvalid = OnInvalid.QUARANTINE,
    max_record_bytes: int = MAX_FASTA_BYTES,
) -> Iterator[Batch]:
    """The records of a FASTA stream, each with its header as the field ``header``; any other field is "".

    A record without a sequence is an empty document. Rejected alone are text before the first ``>``, a sequence that
    is not ASCII, a header that is not UTF-8 (both but for what ``on_invalid`` allows) or has a carriage return inside
    (as a whole file of lines that end in nothing else has), and a record above ``max_record_bytes``, of which only the
    beginning is held in memory. Of the record in which the stream breaks off, nothing is given. With a span, the stream
    is that of ``one_before``.
    """
    rules = _Rules(on_invalid, max_record_bytes)
    batch, size, lines = Batch.carrying(fields), 0, 0
    for record, others in _records(stream, span, max_record_bytes):
        _add(batch, record, rules)
        if others and not _add_plain(batch, record, others, max_record_bytes):
            before = record
            for part in others:
                before = before.followed_by(part)
                _add(batch, before, rules)
        lines = record.last_line(others)
        length = record.length + sum(len(part) + 2 for part in others)
        size += length
        if size >= BATCH_BYTES or len(batch.rejected) >= BATCH_REJECTS:
            end = record.byte + length + 2
            batch.bytes_read = min(end, span.stop) - span.start if span else stream.stored(end)
            batch.lines_read = lines
            yield batch
            batch, size = Batch.carrying(fields), 0
    batch.fault, batch.lines_read = stream.fault, lines
    batch.bytes_read = span.stop - span.start if span else stream.stored(stream.given)
    yield batch


def _records(stream: ByteStream, span: Span | None, limit: int) -> Iterator[tuple[_Record, list[bytes]]]:
    """What stands before the first ``>``, maybe nothing, then every record; each with those that follow it whole in the
    same block.
    """
    held = b"\n"  # a ">" at the start of the input or of a block begins a line if a newline was before it
    record = _Record(0, -2)
    if span and span.start:
        held, record = b"", _Record(0, span.start - 2, foreign=True)
    for block in stream.blocks():
        behind = span is not None and record.byte + 1 + record.length + len(held) >= span.stop
        if behind and record.foreign:
            break
        if record.byte == -2 and not record.length and block.startswith(BOM):
            block, record.byte = block[len(BOM) :], record.byte + len(BOM)
        block = held + block
        held = b"\n" if block.endswith(b"\n") else b""
        block = block[: len(block) - len(held)]
        first, *others = block.split(b"\n>") if b">" in block else [block]
        record.take(first, limit)
        if behind and others:
            yield record, []
            return
        if others:
            last = others.pop()
            yield record, others
            record = record.followed_by(last, others)
    if not stream.fault:
        yield record, []


def _add_plain(batch: Batch, before: _Record, parts: list[bytes], most_bytes: int) -> bool:
    """Adds the records of ``parts``, which follow ``before``, all at once; or none, if one of them needs a closer look.

    Proteins have some hundred letters, so that steps in Python for each of them would cost more than the reading.
    """
    cut = [part.partition(b"\n") for part in parts]
    bodies = b">".join([body for _, _, body in cut])
    if b";" in bodies or not bodies.isascii() or max(map(len, parts)) > most_bytes:
        return False
    texts = bodies.translate(None, _WHITE).decode("ascii").split(">")
    try:
        headers = b"\n".join([header for header, _, _ in cut]).decode().split("\n")
    except UnicodeDecodeError:
        return False
    headers = [header.strip() for header in headers]
    if len(texts) != len(parts) or "\r" in "".join(headers):
        return False
    first = before.followed_by(b"")
    batch.texts += texts
    batch.lines += accumulate((part.count(b"\n") + 1 for part in parts[:-1]), initial=first.line)
    batch.bytes_at += accumulate((len(part) + 2 for part in parts[:-1]), initial=first.byte)
    for name, column in batch.fields.items():
        column += headers if name == HEADER else [""] * len(parts)
    return True


def _add(batch: Batch, record: _Record, rules: _Rules) -> None:
    """Adds a record as a document or as rejected; blank lines and comments before the first one are neither."""
    if record.foreign:
        return
    try:
        if record.length > rules.most_bytes:
            raise NotADocument(f"the record has {record.length} bytes, above the limit of {rules.most_bytes}")
        if record.line:
            header, sequence, repaired = _header_and_sequence(record.parts, rules.on_invalid)
            values = [header if name == HEADER else "" for name in batch.fields]
            batch.add(sequence, record.line, record.byte, values)
            batch.repaired += repaired
        elif b"\r>" in b"".join(record.parts):
            raise NotADocument(_OLD_MAC)
        elif b"".join(_letters(record.parts)):
            raise NotADocument("text before the first header, a line that begins with '>'")
    except NotADocument as reason:
        batch.rejected.append(_rejected(record, str(reason), rules.most_bytes))


def _header_and_sequence(parts: list[bytes], on_invalid: OnInvalid) -> tuple[str, str | bytes, bool]:
    """The header, the sequence, and whether something in the sequence was replaced."""
    if len(parts) > 1 and b"\n" not in parts[0]:
        parts = [b"".join(parts)]
    line, _, first = parts[0].partition(b"\n")
    try:
        header = line.decode("utf-8", "strict" if on_invalid is OnInvalid.QUARANTINE else "replace").strip()
    except UnicodeDecodeError as error:
        raise NotADocument(f"invalid UTF-8 at byte {error.start + 1} of the header") from None
    if "\r" in header:
        raise NotADocument(_OLD_MAC)
    letters = _letters([first, *parts[1:]])
    try:
        if len(letters) == 1:
            return header, letters[0].decode("ascii"), False
        return header, "".join([part.decode("ascii") for part in letters]), False
    except UnicodeDecodeError:
        whole = b"".join(letters)
    if on_invalid is not OnInvalid.QUARANTINE and not _is_utf8(whole):
        bytes_wanted = on_invalid is OnInvalid.BYTES
        return header, whole if bytes_wanted else whole.decode("utf-8", "replace"), not bytes_wanted
    place = next(place for place, letter in enumerate(whole) if letter > 127)
    raise NotADocument(f"letter {place + 1} of the sequence is byte {whole[place]:#x}, not ASCII")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _letters(parts: list[bytes]) -> list[bytes]:
    """Lines without comments and white space."""
    for part in parts:
        if b";" in part:  # all in one piece, for a comment may go on in the next part
            return [_COMMENT.sub(b"", b"".join(parts)).translate(None, _WHITE)]
    return [part.translate(None, _WHITE) for part in parts]


def _rejected(record: _Record, reason: str, most_bytes: int) -> Rejected:
    raw, line, byte = b"".join(record.parts), record.line, record.byte
    if line:
        raw = b">" + raw
    else:
        raw, line, byte = raw[1:], 1, 0  # its first byte is a newline that the input does not have
    if record.length > most_bytes:
        return Rejected(
            line, byte, reason, excerpt=raw[: min(80, most_bytes)].decode("utf-8", "backslashreplace")
        )
    return Rejected.of(raw, line, byte, reason)
