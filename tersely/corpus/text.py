"""Documents from text files (one a file) and from Parquet columns (one a row)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tersely.corpus.files import ByteStream
from tersely.corpus.read import BATCH_BYTES, MAX_RECORD_BYTES, Batch, Rejected, as_field
from tersely.errors import UsageError

_BOM = b"\xef\xbb\xbf"


def text_batches(stream: ByteStream, fields: Sequence[str] = ()) -> Iterator[Batch]:
    """A text file is one document, of which every field is ""; one that is not UTF-8 or above ``MAX_RECORD_BYTES`` is
    rejected.
    """
    blocks: list[bytes] = []
    total = 0
    for block in stream.blocks():
        total += len(block)
        if total > MAX_RECORD_BYTES:
            reason = f"the file has more than {MAX_RECORD_BYTES} bytes: split it, or write it as JSON lines"
            yield Batch(rejected=[Rejected(1, 0, reason)], bytes_read=stream.stored(total))
            return
        blocks.append(block)
    content = b"".join(blocks).removeprefix(_BOM)
    batch = Batch.carrying(fields)
    batch.bytes_read = stream.stored(total)
    if stream.fault:
        batch.rejected.append(Rejected.of(content, 1, 0, stream.fault))
        batch.complete = False
    else:
        try:
            batch.add(content.decode(), 1, 0, [""] * len(fields))
        except UnicodeDecodeError as error:
            batch.rejected.append(Rejected.of(content, 1, 0, f"invalid UTF-8 at byte {error.start}"))
    yield batch


def parquet_batches(path: Path, text_field: str, fields: Sequence[str] = ()) -> Iterator[Batch]:
    """The rows of a Parquet file whose column passed ``check_column``; a null, a value that is not UTF-8 or one above
    ``MAX_RECORD_BYTES`` is rejected alone. A field of which there is not exactly one column is "" in every row, and a
    value of a field that cannot be spelled is "" in its own.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        yield Batch(rejected=[Rejected(0, -1, f"not a readable Parquet file: {error}")], complete=False)
        return
    batch, size, row = Batch.carrying(fields), 0, 0
    there = [name for name in fields if file.schema_arrow.names.count(name) == 1]
    rows_in_file = max(1, file.metadata.num_rows)
    stored = path.stat().st_size
    try:
        for records in file.iter_batches(batch_size=1024, columns=[*dict.fromkeys([text_field, *there])]):
            texts = records.column(text_field).cast(pa.large_binary()).to_pylist()
            columns = [
                _strings(records.column(name)) if name in there else [""] * len(texts) for name in fields
            ]
            for number, text in enumerate(texts):
                row += 1
                size += _add_row(batch, text, row, [column[number] for column in columns])
            if size >= BATCH_BYTES:
                batch.bytes_read = stored * row // rows_in_file
                yield batch
                batch, size = Batch.carrying(fields), 0
    except (OSError, pa.ArrowException) as error:
        batch.rejected.append(Rejected(row + 1, -1, f"the file breaks off: {error}"))
        batch.complete = False
    batch.bytes_read = stored
    yield batch


def _add_row(batch: Batch, value: bytes | None, row: int, fields: Sequence[str]) -> int:
    if value is None:
        batch.rejected.append(Rejected(row, -1, "the value is null"))
        return 0
    if len(value) > MAX_RECORD_BYTES:
        reason = f"the value has {len(value)} bytes, above the limit of {MAX_RECORD_BYTES}"
        batch.rejected.append(Rejected.of(value, row, -1, reason))
        return 0
    try:
        batch.add(value.decode(), row, -1, fields)
    except UnicodeDecodeError as error:
        batch.rejected.append(Rejected.of(value, row, -1, f"invalid UTF-8 at byte {error.start}"))
    return len(value) + sum(map(len, fields))


def _strings(column: pa.Array) -> list[str]:
    if _is_text(column.type):
        column = column.cast(pa.large_binary())  # whose values need not be UTF-8
    try:
        values: list[Any] = column.to_pylist()
        return [as_field(value) for value in values]
    except (ValueError, OverflowError, LookupError, pa.ArrowException):  # whatever stands in one value
        return [_string(value) for value in column]


def _string(value: pa.Scalar) -> str:
    """A value in Python's spelling; in Arrow's where Python has none, as of dates after the year 9999; else ""."""
    try:
        return as_field(value.as_py())
    except (ValueError, OverflowError, LookupError, pa.ArrowException):
        pass
    try:
        return as_field(value.cast(pa.string()).as_py())
    except (ValueError, pa.ArrowException):
        return ""


def check_column(path: Path, text_field: str) -> None:
    """Raises UsageError if a readable Parquet file has no column ``text_field``, several, or one that is no text."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return  # not readable: it is quarantined as a whole when its turn comes
    if schema.names.count(text_field) != 1:
        many = "several columns" if text_field in schema.names else "no column"
        raise UsageError(
            f"{path} has {many} {text_field!r} (columns: {', '.join(schema.names)}): use --text-field"
        )
    kind = schema.field(text_field).type
    if not _is_text(kind):
        raise UsageError(f"{path}: the column {text_field!r} holds {kind}, not text: use --text-field")


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    text = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    raw = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in text + raw)
