"""``documents.arrow``: the strings that sources gave beside their documents, such as the headers of sequences."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from tersely.errors import ShardError
from tersely.shards.atomic import whole_file
from tersely.shards.manifest import Manifest

FIELDS_NAME = "documents.arrow"
"""The file in a prepared folder; there only if a source gave fields."""

_BATCH_ROWS = 1 << 16
_BATCH_CHARACTERS = 1 << 24
"""A record batch is written once it has either, which bounds memory and keeps Arrow's int32 offsets from overflowing."""


class FieldsWriter:
    """Takes the fields of consecutive documents and writes them some thousand rows at a time."""

    def __init__(self, stream: pa.ipc.RecordBatchStreamWriter, schema: pa.Schema) -> None:
        self._stream, self._schema = stream, schema
        self._columns: dict[str, list[str]] = {name: [] for name in schema.names}
        self._rows = self._characters = 0

    def add(self, fields: Mapping[str, Sequence[str]], rows: int) -> None:
        """The next ``rows`` documents; a field that is not in ``fields`` is "" for all of them."""
        for name, column in self._columns.items():
            values = fields.get(name, [""] * rows)
            column.extend(values)
            self._characters += sum(map(len, values))
        self._rows += rows
        if self._rows >= _BATCH_ROWS or self._characters >= _BATCH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if self._rows:
            arrays = [pa.array(column, pa.string()) for column in self._columns.values()]
            self._stream.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._columns = {name: [] for name in self._columns}
            self._rows = self._characters = 0


@contextmanager
def fields_writer(folder: Path, names: Sequence[str]) -> Generator[FieldsWriter | None]:
    """Writes ``documents.arrow`` with a column for each name, whole or not at all; None if there are no names."""
    if not names:
        yield None
        return
    schema = pa.schema([(name, pa.string()) for name in names])
    with (
        whole_file(folder / FIELDS_NAME) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_stream(sink, schema) as stream,
    ):
        writer = FieldsWriter(stream, schema)
        yield writer
        writer.flush()


def read_fields(folder: Path, manifest: Manifest) -> pa.Table:
    """Maps ``documents.arrow``: a row for each document of the corpus, in order of their ids, a column for each field.

    A corpus without fields gives a table without columns (and so without rows).

    Raises:
        ShardError: the manifest names the file, but it is missing, not of our layout, or has not a row for each
            document.
    """
    if FIELDS_NAME not in manifest.files:
        return pa.table({})
    path = folder / FIELDS_NAME
    if path.is_symlink() or not path.is_file():
        raise ShardError(f"{path} is missing, or not a plain file: copy or prepare the folder again")
    try:
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        table.validate()
    except (pa.ArrowException, OSError) as error:
        raise ShardError(f"{path} is not readable: {error}") from error
    if any(kind != pa.string() for kind in table.schema.types):
        raise ShardError(f"{path} has a column that does not hold strings, so it is not of the format")
    if len(table) != manifest.documents:
        raise ShardError(f"{path} has {len(table)} rows, the manifest says {manifest.documents} documents")
    return table
