"""Rows of a table as records, like those that JSON lines would give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa

from tersely.corpus.read import OnInvalid
from tersely.corpus.records import NotADocument


def rows_as_records(
    rows: pa.RecordBatch, on_invalid: OnInvalid
) -> Iterator[tuple[dict[str, Any], bool] | NotADocument]:
    """Each row's record and whether a string of it was replaced in part; or why it has none, so that others still have.

    All structs of a column have the same fields, so where the arguments of two tools differ, Arrow made nulls of what each
    lacks. Templates would write them, and models learn to: inside of columns, fields that are null are left out. That goes
    for nulls that were there before Arrow as well, which nobody can tell from its own.
    """
    try:
        found: list[Any] = rows.to_pylist()
    except (ValueError, OverflowError, LookupError, pa.ArrowException):  # whatever stands in one value
        found = [None] * rows.num_rows
    for number, record in enumerate(found):
        if record is not None:
            yield _without_nulls(record), False
            continue
        try:
            yield _closely(rows, number, on_invalid)
        except NotADocument as reason:
            yield reason


def _closely(rows: pa.RecordBatch, number: int, on_invalid: OnInvalid) -> tuple[dict[str, Any], bool]:
    record: dict[str, Any] = {}
    replaced = False
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        try:
            record[name] = column[number].as_py()
        except UnicodeDecodeError:
            if on_invalid is OnInvalid.BYTES:
                raise NotADocument("it is not UTF-8: only plain texts can be kept as their bytes") from None
            if on_invalid is OnInvalid.QUARANTINE:
                raise NotADocument(f"the column {name!r} has invalid UTF-8") from None
            record[name], replaced = _replaced(column[number]), True
        except (ValueError, OverflowError, LookupError, pa.ArrowException) as error:
            raise NotADocument(f"the column {name!r} has a value that cannot be read: {error}") from None
    return _without_nulls(record), replaced


def _replaced(cell: Any) -> Any:
    """The value of a cell, with U+FFFD for what is not UTF-8."""
    if not cell.is_valid:
        return None
    if isinstance(cell, pa.StringScalar | pa.LargeStringScalar | pa.StringViewScalar):
        return cell.as_buffer().to_pybytes().decode("utf-8", "replace")
    if isinstance(cell, pa.DictionaryScalar):
        return _replaced(cell.value)
    if isinstance(cell, pa.StructScalar):
        return {name: _replaced(item) for name, item in cell.items()}
    if isinstance(cell, pa.MapScalar):
        return [tuple(_replaced(pair).values()) for pair in cell.values]
    if isinstance(cell, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
        return [_replaced(item) for item in cell.values]
    return cell.as_py()


def _without_nulls(record: dict[str, Any]) -> dict[str, Any]:
    return {name: _pruned(value) for name, value in record.items()}


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {name: _pruned(item) for name, item in pairs if item is not None}
    if isinstance(value, list):
        return [_pruned(item) for item in cast("list[Any]", value)]
    return value
