"""Documents from text files (one a file) and from Parquet columns (one a row)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tersely.corpus.files import ByteStream
from tersely.corpus.read import BATCH_BYTES, MAX_RECORD_BYTES, Batch, Rejected
from tersely.errors import UsageError

_BOM = b"\xef\xbb\xbf"


def text_batches(stream: ByteStream) -> Iterator[Batch]:
    """A text file is one document; one that is not UTF-8 or above ``MAX_RECORD_BYTES`` is rejected."""
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
    batch = Batch(bytes_read=stream.stored(total))
    if stream.fault:
        batch.rejected.append(Rejected.of(content, 1, 0, stream.fault))
        batch.complete = False
    else:
        try:
            batch.add(content.decode(), 1, 0)
        except UnicodeDecodeError as error:
            batch.rejected.append(Rejected.of(content, 1, 0, f"invalid UTF-8 at byte {error.start}"))
    yield batch


def parquet_batches(path: Path, text_field: str) -> Iterator[Batch]:
    """The rows of a Parquet file; a null or a value that is not UTF-8 is rejected alone.

    Raises:
        UsageError: the file has no column ``text_field``, or it holds no text.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        yield Batch(rejected=[Rejected(0, -1, f"not a readable Parquet file: {error}")], complete=False)
        return
    _check_column(path, file.schema_arrow, text_field)
    batch, size, row = Batch(), 0, 0
    rows_in_file = max(1, file.metadata.num_rows)
    stored = path.stat().st_size
    try:
        for records in file.iter_batches(batch_size=1024, columns=[text_field]):
            for value in records.column(0).cast(pa.large_binary()).to_pylist():
                row += 1
                size += _add_row(batch, value, row)
            if size >= BATCH_BYTES:
                batch.bytes_read = stored * row // rows_in_file
                yield batch
                batch, size = Batch(), 0
    except (OSError, pa.ArrowException) as error:
        batch.rejected.append(Rejected(row + 1, -1, f"the file breaks off: {error}"))
        batch.complete = False
    batch.bytes_read = stored
    yield batch


def _add_row(batch: Batch, value: bytes | None, row: int) -> int:
    if value is None:
        batch.rejected.append(Rejected(row, -1, "the value is null"))
        return 0
    try:
        batch.add(value.decode(), row, -1)
    except UnicodeDecodeError as error:
        batch.rejected.append(Rejected.of(value, row, -1, f"invalid UTF-8 at byte {error.start}"))
    return len(value)


def _check_column(path: Path, schema: pa.Schema, text_field: str) -> None:
    if text_field not in schema.names:
        raise UsageError(
            f"{path} has no column {text_field!r} (columns: {', '.join(schema.names)}): use --text-field"
        )
    kind = schema.field(text_field).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_kind(kind) for is_kind in (*text, pa.types.is_binary, pa.types.is_large_binary)):
        raise UsageError(f"{path}: the column {text_field!r} holds {kind}, not text: use --text-field")
