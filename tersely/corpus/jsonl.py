"""Records from JSON lines, plain or compressed, whole or a span of them, one bad line at a time.

Where ``orjson`` reads each of some lines and finds a string in each, they are added at once (``_add_plain``). All others
go through ``_document``, which decides what is wrong with a line and what can be done about it; it would give the same
for every line, at a third (100 characters) to 0.6 (1000) of the speed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, count
from operator import add
from typing import Any

import orjson

from tersely.corpus.files import ByteStream
from tersely.corpus.lines import Lines, lines_of
from tersely.corpus.marked import without_lone_surrogates
from tersely.corpus.read import (
    BATCH_BYTES,
    BATCH_REJECTS,
    MAX_RECORD_BYTES,
    Batch,
    Document,
    OnInvalid,
    Rejected,
    Span,
    as_field,
    like_utf16,
    without_surrogates,
)
from tersely.corpus.records import NotADocument, Records, TextRecords
from tersely.corpus.records.protocol import kind_of

_ONE_ARRAY = "; JSON lines have an object on each line: jq -c '.[]' FILE makes them of one array, jq -c . of indented objects"
_CARRIAGE = "; a carriage return alone ends no line: write newlines, for example with tr '\\r' '\\n'"

_MOST_DIGITS = 4300
"""Python's own limit for the conversion of text to an integer."""


def jsonl_batches(
    stream: ByteStream,
    records: Records,
    fields: Sequence[str] = (),
    *,
    span: Span | None = None,
    on_invalid: OnInvalid = OnInvalid.QUARANTINE,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Iterator[Batch]:
    """The records of a stream of JSON lines, with the values of ``fields``; blank lines are no records.

    A line that is not a JSON object with a document, as ``records`` want it, is rejected alone, as is one above
    ``max_record_bytes``, which bounds the memory whatever the line lengths. With a span, the stream is that of
    ``one_before``.
    """
    plain = records.field if isinstance(records, TextRecords) else None
    batch, number, full = Batch.carrying(fields), 0, (span.start if span else 0) + BATCH_BYTES
    for found in lines_of(stream, span, max_record_bytes):
        if plain is not None and found.end < full and _add_plain(batch, found, number + 1, plain):
            number += len(found.lines)
            continue
        at = found.at
        for line in found.lines:
            number += 1
            if found.cut:
                batch.rejected.append(_too_long(found, number, max_record_bytes))
            elif line and not line.isspace():
                _add_closely(batch, line, number, at, records, on_invalid)
            at = found.end if found.cut else at + len(line) + 1
            if at >= full or len(batch.rejected) >= BATCH_REJECTS:
                batch.bytes_read = min(at, span.stop) - span.start if span else stream.stored(at)
                batch.lines_read = number
                yield batch
                batch, full = Batch.carrying(fields), at + BATCH_BYTES
    batch.bytes_read = span.stop - span.start if span else stream.stored(stream.given)
    batch.lines_read, batch.fault = number, stream.fault
    yield batch


def _add_plain(batch: Batch, found: Lines, number: int, text_field: str) -> bool:
    """Adds all lines as documents; or none, if one of them needs a closer look. ``number`` is that of the first line."""
    if found.cut:
        return False
    try:
        records = [orjson.loads(line) for line in found.lines]
        texts = [record[text_field] for record in records]
    except (ValueError, LookupError, TypeError):
        return False
    if set(map(type, texts)) != {str}:
        return False
    columns = [[record.get(name) for record in records] for name in batch.fields]
    if any(any(map(_is_rounded, values)) for values in columns):
        return False
    batch.texts += texts  # in which is no lone surrogate: orjson refuses them
    batch.lines += range(number, number + len(texts))
    begins = accumulate(map(len, found.lines[:-1]), initial=found.at)
    batch.bytes_at += map(add, begins, count())  # and a newline for each line before it
    for column, values in zip(batch.fields.values(), columns, strict=True):
        column += [value if type(value) is str else as_field(value) for value in values]
    return True


def _add_closely(
    batch: Batch, line: bytes, number: int, at: int, records: Records, on_invalid: OnInvalid
) -> None:
    """Adds a line as a document or as rejected."""
    try:
        text, repaired, values = _document(line, records, batch.fields, on_invalid)
        batch.add(text, number, at, values)
        batch.repaired += repaired
    except NotADocument as reason:
        batch.rejected.append(Rejected.of(line, number, at, str(reason)))


def _too_long(found: Lines, number: int, limit: int) -> Rejected:
    reason = f"the line has {found.cut} bytes, above the limit of {limit}"
    return Rejected(number, found.at, reason, excerpt=found.lines[0][:80].decode("utf-8", "backslashreplace"))


def _document(
    line: bytes, records: Records, others: Iterable[str], on_invalid: OnInvalid = OnInvalid.QUARANTINE
) -> tuple[Document, bool, list[str]]:
    """The document of a line, whether something in it was replaced, and the values of other fields."""
    record, raw = _parsed(line, on_invalid)
    if not isinstance(record, dict):
        hint = _ONE_ARRAY if isinstance(record, list) else ""
        raise NotADocument(f"the line is a JSON {kind_of(record)}, not an object{hint}")
    document = records.document(record)
    values = _values(line, record, others)
    exact = records.document(raw) if isinstance(raw, dict) else document
    if not isinstance(document, str):
        if on_invalid is OnInvalid.BYTES and exact != document:
            raise NotADocument("it is not UTF-8: only plain texts can be kept as their bytes")
        found, repaired = without_lone_surrogates(document)
        return found, repaired or exact != document, values
    found, repaired = without_surrogates(document)
    if exact == document:
        return found, repaired, values
    if on_invalid is OnInvalid.REPLACE:
        return found, True, values
    if repaired or not isinstance(exact, str):
        raise NotADocument("the text has both invalid UTF-8 and an escaped lone surrogate")
    return exact.encode("utf-8", "surrogateescape"), False, values


def _values(line: bytes, record: dict[str, Any], others: Iterable[str]) -> list[str]:
    """The values of these fields, "" for those that are not there."""
    values = [record.get(name) for name in others]
    if any(map(_is_rounded, values)):
        with suppress(RecursionError):
            same = json.loads(line.decode("utf-8", "replace"), parse_int=_integer)
            values = [same.get(name) for name in others]
    return [as_field(value) for value in values]


def _parsed(line: bytes, on_invalid: OnInvalid) -> tuple[Any, Any]:
    """The record of a line; and, if the line is not UTF-8, the record in which each wrong byte is a surrogate."""
    try:
        return orjson.loads(line), None
    except orjson.JSONDecodeError as error:
        refused = error
    try:
        return _second_reading(line.decode(), refused), None
    except UnicodeDecodeError as fault:
        if on_invalid is OnInvalid.QUARANTINE:
            raise NotADocument(f"invalid UTF-8 at byte {fault.start} of the line{like_utf16(line)}") from None
    return tuple(
        _second_reading(line.decode("utf-8", how), refused) for how in ("replace", "surrogateescape")
    )


def _second_reading(line: str, refused: Exception) -> Any:
    """The standard library reads what the fast parser refuses but most writers produce: NaN and lone surrogates."""
    try:
        return json.loads(line, parse_int=_integer)
    except (ValueError, RecursionError):
        hint = _ONE_ARRAY if line.strip() in ("[", "{") else _CARRIAGE if "\r" in line.strip() else ""
        raise NotADocument(f"not JSON: {refused}{hint}") from None


def _is_rounded(value: object) -> bool:
    """Whether this may be an integer of more than 64 bits, of which ``orjson`` gives the nearest float."""
    return type(value) is float and abs(value) >= 1 << 63


def _integer(digits: str) -> int | str:
    """The integer, or its digits where Python would refuse them: a field spells both alike."""
    return int(digits) if len(digits) <= _MOST_DIGITS else digits
