"""``documents-*.arrow``: the strings that sources gave beside the documents of a shard, such as headers of sequences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from tersely.errors import ShardError
from tersely.shards.atomic import whole_file
from tersely.shards.manifest import Manifest, ShardEntry

_BATCH_ROWS = 1 << 16
_BATCH_CHARACTERS = 1 << 24
"""A record batch holds at most either, which keeps Arrow's int32 offsets from overflowing."""


def write_fields(path: Path, fields: Mapping[str, Sequence[str]]) -> None:
    """Writes a column of strings for each field, whole or not at all; all are of one length."""
    schema = pa.schema([(name, pa.string()) for name in fields])
    rows = len(next(iter(fields.values())))
    with (
        whole_file(path) as temporary,
        pa.OSFile(os.fsencode(temporary), "wb") as sink,
        pa.ipc.new_stream(sink, schema) as stream,
    ):
        start = 0
        while start < rows:
            stop = start + _batch_rows(fields, start)
            arrays = [pa.array(column[start:stop], pa.string()) for column in fields.values()]
            stream.write_batch(pa.record_batch(arrays, schema=schema))
            start = stop


def _batch_rows(fields: Mapping[str, Sequence[str]], start: int) -> int:
    characters = rows = 0
    for values in zip(*(column[start : start + _BATCH_ROWS] for column in fields.values()), strict=True):
        characters += sum(map(len, values))
        rows += 1
        if characters >= _BATCH_CHARACTERS:
            break
    return rows


def read_fields(folder: Path, manifest: Manifest) -> pa.Table:
    """Maps the fields of all shards: a row for each document of the corpus, in order of their ids, a column for each
    field. A corpus without fields gives a table without columns (and so without rows).

    Raises:
        ShardError: a file is missing, not of our layout, or has not a row for each document of its shard.
    """
    tables = [read_shard_fields(folder, entry) for entry in manifest.shards if entry.fields]
    try:
        return pa.concat_tables(tables) if tables else pa.table({})
    except pa.ArrowException as error:
        raise ShardError(f"{folder}: the fields of its shards do not have the same names: {error}") from error


def read_shard_fields(folder: Path, entry: ShardEntry) -> pa.Table:
    """Maps the fields of one shard; raises ShardError as ``read_fields`` does."""
    path = folder / entry.fields
    if path.is_symlink() or not path.is_file():
        raise ShardError(f"{path} is missing, or not a plain file: copy or prepare the folder again")
    try:
        table = pa.ipc.open_stream(pa.memory_map(os.fsencode(path))).read_all()
        table.validate()
    except (pa.ArrowException, OSError) as error:
        raise ShardError(f"{path} is not readable: {error}") from error
    if any(kind != pa.string() for kind in table.schema.types):
        raise ShardError(f"{path} has a column that does not hold strings, so it is not of the format")
    if len(table) != entry.documents:
        raise ShardError(f"{path} has {len(table)} rows, the manifest says {entry.documents} documents")
    return table
