"""Records from JSON lines, plain or compressed, one bad line at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from tersely.corpus.files import ByteStream
from tersely.corpus.read import BATCH_BYTES, MAX_RECORD_BYTES, Batch, Rejected, as_field, without_surrogates

_BOM = b"\xef\xbb\xbf"


class _NotADocument(Exception):
    """Carries the reason why a line is no document."""


def jsonl_batches(stream: ByteStream, text_field: str, fields: Sequence[str] = ()) -> Iterator[Batch]:
    """The records of a stream of JSON lines, with the values of ``fields``; blank lines are no records.

    A line that is not a JSON object with a string in ``text_field`` is rejected alone. Memory is bounded by
    ``MAX_RECORD_BYTES``, whatever the line lengths.
    """
    batch, size = Batch.carrying(fields), 0
    number, at = 0, 0
    for line, whole_length in _lines(stream):
        number += 1
        if number == 1 and line.startswith(_BOM):
            line = line[len(_BOM) :]
        if whole_length > len(line) + len(_BOM):
            reason = f"the line has {whole_length} bytes, above the limit of {MAX_RECORD_BYTES}"
            batch.rejected.append(Rejected(number, at, reason, excerpt=line[:80].decode("utf-8", "replace")))
        elif line and not line.isspace():
            try:
                text, repaired, values = _document(line, text_field, fields)
                batch.add(text, number, at, values)
                batch.repaired += repaired
                size += len(line)
            except _NotADocument as reason:
                batch.rejected.append(Rejected.of(line, number, at, str(reason)))
        at += whole_length + 1
        if size >= BATCH_BYTES or len(batch.rejected) >= 10_000:
            batch.bytes_read = stream.stored(at)
            yield batch
            batch, size = Batch.carrying(fields), 0
    if stream.fault:
        batch.rejected.append(Rejected(number + 1, at, stream.fault))
        batch.complete = False
    batch.bytes_read = stream.stored(at)
    yield batch


def _lines(stream: ByteStream) -> Iterator[tuple[bytes, int]]:
    """Every line and its length without its newline; of a line above the limit only the beginning is given.

    What precedes a break in the stream is not a line: it is left to the caller to report ``stream.fault``.
    """
    carry: list[bytes] = []
    carried = 0
    for block in stream.blocks():
        lines = block.split(b"\n")
        if len(lines) > 1:
            yield _joined([*carry, lines[0]]), carried + len(lines[0])
            for line in lines[1:-1]:
                yield line, len(line)
            carry, carried = [], 0
        if carried <= MAX_RECORD_BYTES:
            carry.append(lines[-1])
        carried += len(lines[-1])
    if carried and not stream.fault:
        yield _joined(carry), carried


def _joined(parts: list[bytes]) -> bytes:
    line = b"".join(parts) if len(parts) > 1 else parts[0]
    return line if len(line) <= MAX_RECORD_BYTES else line[:4096]


def _document(line: bytes, field: str, others: Sequence[str]) -> tuple[str, bool, list[str]]:
    """The text of a line, whether lone surrogates in it were replaced, and the values of other fields."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        record = _second_reading(line, error)
    if not isinstance(record, dict):
        raise _NotADocument(f"the line is a JSON {_kind(record)}, not an object")
    text = record.get(field)
    if isinstance(text, str):
        return *without_surrogates(text), [as_field(record.get(name)) for name in others]
    if field not in record:
        keys = ", ".join(repr(key) for key in list(record)[:8]) or "none"
        raise _NotADocument(f"there is no field {field!r} (fields: {keys})")
    raise _NotADocument(f"the field {field!r} is {_kind(text)}, not a string")


def _second_reading(line: bytes, error: Exception) -> Any:
    """The standard library reads what the fast parser refuses but most writers produce: NaN and lone surrogates."""
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as fault:
        raise _NotADocument(f"invalid UTF-8 at byte {fault.start} of the line") from None
    except (ValueError, RecursionError):
        raise _NotADocument(f"not JSON: {error}") from None


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
