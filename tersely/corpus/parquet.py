"""Documents from Parquet columns, one a row; a file is cut by its row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tersely.corpus.cells import rows_as_records
from tersely.corpus.files import is_bomb
from tersely.corpus.marked import Marked, Segment, without_lone_surrogates
from tersely.corpus.read import (
    BATCH_BYTES,
    BATCH_REJECTS,
    MAX_RECORD_BYTES,
    Batch,
    OnInvalid,
    Rejected,
    Span,
    as_field,
    raw_bytes,
)
from tersely.corpus.records import NotADocument, Records, TextRecords
from tersely.corpus.records.protocol import NoField
from tersely.errors import UsageError


def parquet_spans(path: Path, target: int) -> list[Span | None]:
    """Consecutive row groups of which each span's have about ``target`` stored bytes; ``[None]`` of an unreadable file."""
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return [None]
    ends = _stored_ends(metadata, path.stat().st_size)
    spans: list[Span | None] = []
    start, begin = 0, 0
    for group, end in enumerate(ends, 1):
        if end - begin >= target or group == len(ends):
            spans.append(Span(start, group))
            start, begin = group, end
    return spans or [None]


def parquet_batches(
    path: Path,
    records: Records,
    fields: Sequence[str] = (),
    *,
    span: Span | None = None,
    on_invalid: OnInvalid = OnInvalid.QUARANTINE,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Iterator[Batch]:
    """The rows of a Parquet file, or of a span of its row groups; a text's column has passed ``check_column``.

    A null, a value that is not UTF-8 (unless ``on_invalid`` allows it) or one above ``max_record_bytes`` is rejected
    alone. Of records that are no plain texts, nulls inside of columns are left out (``rows_as_records``). A field of which there is not exactly one column is "" in every row, and a value of a field that cannot be
    spelled is "" in its own.
    """
    batch, size, given, row, stored = Batch.carrying(fields), 0, 0, 0, 0
    try:
        with pq.ParquetFile(path) as file:
            ends = [0, *_stored_ends(file.metadata, path.stat().st_size)]
            groups = range(span.start, span.stop) if span else range(len(ends) - 1)
            if groups.stop >= len(ends):
                raise OSError(f"there are {len(ends) - 1} row groups; there were more when it was listed")
            stored = ends[groups.stop] - ends[groups.start]
            rows = sum(file.metadata.row_group(group).num_rows for group in groups)
            for found, *values in _rows(file, path, groups, records, fields, on_invalid):
                row += 1
                if isinstance(records, TextRecords):
                    size += _add_row(batch, found, row, values, on_invalid, max_record_bytes)
                else:
                    columns = file.schema_arrow.names
                    size += _add_record(batch, found, row, values, records, columns, max_record_bytes)
                if size >= BATCH_BYTES or len(batch.rejected) >= BATCH_REJECTS:
                    given, read = given + size, stored * row // rows
                    if is_bomb(given, read):
                        raise OSError(f"{given} bytes of text came from {read} stored ones")
                    batch.bytes_read, batch.lines_read = read, row
                    yield batch
                    batch, size = Batch.carrying(fields), 0
    except (OSError, pa.ArrowException) as error:
        place = f"breaks off behind row {row}" if row else "cannot be read as Parquet"
        batch.fault = f"the file {place}: {' '.join(str(error).split())}"
    batch.bytes_read, batch.lines_read = stored, row
    yield batch


def _stored_ends(metadata: pq.FileMetaData, size: int) -> list[int]:
    """How many of the ``size`` bytes of a file stand, about, for the first row group, the first two, ... and all."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    ends = [
        *accumulate(
            sum(group.column(i).total_compressed_size for i in range(group.num_columns)) for group in groups
        )
    ]
    return [size * end // max(1, ends[-1]) for end in ends]


def _rows(
    file: pq.ParquetFile,
    path: Path,
    groups: range,
    records: Records,
    fields: Sequence[str],
    on_invalid: OnInvalid,
) -> Iterator[tuple[Any, ...]]:
    """The text of each row, as bytes or None, or what ``rows_as_records`` makes of it; and the fields, as strings."""
    plain = records.field if isinstance(records, TextRecords) else None
    once = {name for name in file.schema_arrow.names if file.schema_arrow.names.count(name) == 1}
    there = [name for name in fields if name in once]
    of_record = [name for name in records.columns if name in once or name == plain]
    names = [*dict.fromkeys([*of_record, *there])]
    for group in groups:
        for rows in file.iter_batches(_rows_at_once(file, path, group, names), [group], names):
            found = (
                rows_as_records(rows.select(of_record), on_invalid)
                if plain is None
                else rows.column(plain).cast(pa.large_binary()).to_pylist()
            )
            columns = [_strings(rows.column(name)) if name in there else repeat("") for name in fields]
            yield from zip(found, *columns, strict=False)


def _rows_at_once(file: pq.ParquetFile, path: Path, group: int, names: Sequence[str]) -> int:
    """Rows of about ``BATCH_BYTES``: by their mean, and where values are numbers into a dictionary by the longest in it.

    Raises:
        OSError: the columns say that they are a bomb.
    """
    metadata = file.metadata.row_group(group)
    columns = [metadata.column(i) for i in range(metadata.num_columns)]
    read = [column for column in columns if column.path_in_schema.split(".")[0] in names]
    plain, stored = sum(c.total_uncompressed_size for c in read), sum(c.total_compressed_size for c in read)
    if is_bomb(plain, stored):
        raise OSError(f"row group {group} says that {stored} stored bytes hold {plain}")
    rows = BATCH_BYTES * metadata.num_rows // max(1, plain)
    of_text = [name for name in names if _is_text(file.schema_arrow.field(name).type)]
    if any(column.has_dictionary_page for column in read if column.path_in_schema in of_text):
        with pq.ParquetFile(path, metadata=file.metadata, read_dictionary=of_text) as again:
            first = next(again.iter_batches(1, [group], of_text), None)
            for column in first.columns if first else []:
                if pa.types.is_dictionary(column.type):
                    lengths = pc.call_function("binary_length", [column.dictionary])
                    longest = pc.call_function("max", [lengths]).as_py() or 1
                    rows = min(rows, 16 * BATCH_BYTES // longest)
    return max(1, min(1024, rows))


def _add_row(
    batch: Batch,
    value: bytes | None,
    row: int,
    fields: Sequence[str],
    on_invalid: OnInvalid,
    max_record_bytes: int,
) -> int:
    if value is None:
        batch.rejected.append(Rejected(row, -1, "the value is null"))
        return 0
    if len(value) > max_record_bytes:
        reason = f"the value has {len(value)} bytes, above the limit of {max_record_bytes}"
        batch.rejected.append(Rejected.of(value, row, -1, reason))
    else:
        batch.add_raw(value, row, -1, fields, on_invalid)
    return len(value) + sum(map(len, fields))


def _add_record(
    batch: Batch,
    found: tuple[dict[str, Any], bool] | NotADocument,
    row: int,
    fields: Sequence[str],
    records: Records,
    columns: Sequence[str],
    max_record_bytes: int,
) -> int:
    try:
        if isinstance(found, NotADocument):
            raise found
        record, replaced = found
        document, repaired = without_lone_surrogates(_segments(records.document(record)))
    except NotADocument as error:
        reason = NoField(error.wanted, columns) if isinstance(error, NoField) else error
        batch.rejected.append(Rejected(row, -1, str(reason)))
        return 0
    size = len(raw_bytes(document))
    if size > max_record_bytes:
        reason = f"the record has {size} bytes, above the limit of {max_record_bytes}"
        batch.rejected.append(Rejected(row, -1, reason))
    else:
        batch.add(document, row, -1, fields)
        batch.repaired += repaired or replaced
    return size + sum(map(len, fields))


def _segments(document: str | Marked) -> Marked:
    return (Segment(document, True, False),) if isinstance(document, str) else document


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
        return  # not readable: that is a fault when its turn comes
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
