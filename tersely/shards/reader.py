"""Reads prepared folders: maps the shards into memory and finds each document in them."""

from __future__ import annotations

import functools
import os
import stat
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
import pyarrow as pa
import xxhash

from tersely.errors import ShardError
from tersely.ragged import Ragged
from tersely.shards.columns import Shard, column_dtypes, required_columns
from tersely.shards.fields import read_fields
from tersely.shards.index import StoredPieces, index_pieces
from tersely.shards.manifest import Manifest, ShardEntry

Column: TypeAlias = Literal["input_ids", "labels"]
"""A column with a value for each token."""

_VALUES_HELD = 1 << 15
"""Shards whose values stay mapped in a process: half of the mappings that Linux allows it by default."""


@dataclass(frozen=True)
class Place:
    """Where a piece of a row is from: its document's id and source, the token where it starts in it, and its length."""

    document: int
    start: int
    length: int
    source: str


@dataclass(frozen=True)
class StoredRow:
    """A row as it is stored: ``input_ids`` has a row for each of its pieces, ``places`` says where they are from.

    ``labels``, one for each id, and ``word_lengths``, which sum to the ids, are None where the folder has no such column.
    """

    input_ids: Ragged
    places: list[Place]
    labels: np.ndarray[Any, Any] | None = None
    word_lengths: np.ndarray[Any, Any] | None = None


class ShardFolder:
    """A finished prepared folder. Opening it checks the manifest and the size of every shard, not their content.

    Shards are mapped one by one, when something of them is asked for, so that a folder of fifty thousand opens in
    seconds and needs neither a mapping nor a file descriptor for each.

    Raises:
        ShardError: no manifest, or a shard is missing or of another size than the manifest says.
    """

    def __init__(self, path: str | Path) -> None:
        self._open(path)
        for entry in self.manifest.shards:
            check_size(self.path / entry.name, entry)

    def _open(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest.load(path)
        self.shards: Sequence[Shard] = _Shards(self)
        self._values = functools.lru_cache(_VALUES_HELD)(self._map_values)

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        """Other processes map the files themselves; sizes have been checked, and are again where a shard is mapped."""
        self._open(path)

    @cached_property
    def fingerprint(self) -> str:
        """xxh3-128 over the names and checksums of the shards: what is stored, in which order."""
        content = "".join(f"{entry.name} {entry.xxh3_128}\n" for entry in self.manifest.shards)
        return xxhash.xxh3_128_hexdigest(content.encode())

    @cached_property
    def pieces(self) -> StoredPieces:
        """Every stored piece, grouped by document."""
        return index_pieces(self.shards, self.manifest.shards)

    @cached_property
    def document_lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of every stored document, in the order of the corpus, int64."""
        return self.pieces.document_lengths

    @cached_property
    def document_ids(self) -> np.ndarray[Any, Any]:
        """The id of every stored document: 0, 1, 2, ... unless some were dropped for their length; int64, ascending."""
        firsts = self.manifest.first_documents
        stored = [
            np.unique(shard.document_ids.values) + first
            for shard, first in zip(self.shards, firsts, strict=True)
        ]
        return np.concatenate([np.empty(0, np.int64), *stored])

    @cached_property
    def document_fields(self) -> pa.Table:
        """What sources gave beside their documents (FASTA headers, JSON fields): row ``i`` is that of document id ``i``.

        A column of strings for each field; a table without columns if there are none. Mapped, so opening costs little.

        Raises:
            ShardError: the file is damaged, or has not a row for each document.
        """
        return read_fields(self.path, self.manifest)

    def row(self, index: int) -> StoredRow:
        """The ``index``-th stored row, its pieces in order.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= index < self.manifest.rows:
            raise IndexError(f"row {index} of {self.manifest.rows}")
        ends = list(accumulate(entry.rows for entry in self.manifest.shards))
        number = bisect_right(ends, index)
        shard, first = self.shards[number], self.manifest.first_documents[number]
        index -= ends[number] - len(shard.input_ids)
        lengths = shard.seq_lengths[index].astype(np.int64)
        columns = (shard.document_ids[index] + first, shard.document_starts[index], lengths)
        names = [self.manifest.sources[source].name for source in shard.source_ids[index].tolist()]
        places = [Place(*numbers) for numbers in zip(*(c.tolist() for c in columns), names, strict=True)]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        labels = None if shard.labels is None else shard.labels[index]
        words = None if shard.word_lengths is None else shard.word_lengths[index]
        return StoredRow(Ragged(shard.input_ids[index], offsets), places, labels, words)

    def fields_of(self, document: int) -> dict[str, str]:
        """What its source gave beside the document of this id: its row of ``document_fields``."""
        table = self.document_fields
        return {name: table.column(name)[document].as_py() for name in table.column_names}

    def tokens(
        self, document: int, start: int, stop: int, column: Column = "input_ids"
    ) -> np.ndarray[Any, Any]:
        """Tokens ``start`` to ``stop`` of the ``document``-th stored document (a view of the file if in one piece), or
        their labels, if the folder has that column.
        """
        pieces = self.pieces
        parts: list[np.ndarray[Any, Any]] = []
        for piece in range(int(pieces.first[document]), int(pieces.first[document + 1])):
            length = int(pieces.length[piece])
            if start < length and stop > 0:
                offset = int(pieces.offset[piece])
                values = self.values(int(pieces.shard[piece]), column)
                parts.append(values[offset + max(start, 0) : offset + min(stop, length)])
            start, stop = start - length, stop - length
        if len(parts) == 1:
            return parts[0]
        empty = np.empty(0, self.manifest.dtype if column == "input_ids" else np.int32)
        return np.concatenate(parts) if parts else empty

    def values(self, shard: int, column: Column = "input_ids") -> np.ndarray[Any, Any]:
        """All ids of a shard, or all its labels, one row after another; mapped, and kept mapped for the next time."""
        return self._values(shard)[column]

    def _map_values(self, number: int) -> dict[str, np.ndarray[Any, Any]]:
        entry = self.manifest.shards[number]
        names = [name for name in get_args(Column) if name == "input_ids" or name in self.manifest.columns]
        columns = map_columns(self.path / entry.name, entry, self.manifest, names)
        if len({len(column.values) for column in columns.values()} | {entry.tokens}) > 1:
            raise ShardError(
                f"{self.path / entry.name} does not hold {entry.tokens} tokens, as the manifest says"
            )
        return {name: column.values for name, column in columns.items()}


class _Shards(Sequence[Shard]):
    """The shards of a folder; each is mapped when it is asked for, and not held."""

    def __init__(self, folder: ShardFolder) -> None:
        self._path, self._manifest = folder.path, folder.manifest

    def __len__(self) -> int:
        return len(self._manifest.shards)

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> list[Shard]: ...
    def __getitem__(self, index: int | slice) -> Shard | list[Shard]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        entry = self._manifest.shards[index]
        return read_shard(self._path / entry.name, entry, self._manifest)


def check_size(path: Path, entry: ShardEntry) -> None:
    """Raises ShardError unless the shard is a plain file of the size that the manifest says."""
    try:
        found = os.lstat(path)  # one call, for there may be very many shards on a distant disk
    except OSError:
        found = None
    if found and stat.S_ISLNK(found.st_mode):
        raise ShardError(f"{path} is a symbolic link, which a shard must not be: put the file itself there")
    if not found or not stat.S_ISREG(found.st_mode):
        raise ShardError(f"{path} is missing: the folder was copied in part, or the shard was deleted")
    if found.st_size != entry.size:
        raise ShardError(
            f"{path} has {found.st_size} bytes, the manifest says {entry.size}: copy or prepare it again"
        )


def read_shard(path: Path, entry: ShardEntry, manifest: Manifest) -> Shard:
    """Maps a shard. Raises ShardError if it is not an Arrow file of our layout, with the columns and the dtype that the
    manifest names and the size and counts of ``entry``.
    """
    shard = Shard(**map_columns(path, entry, manifest, required_columns(manifest.columns)))
    counts = (len(shard.input_ids), len(shard.seq_lengths.values), len(shard.input_ids.values))
    if counts != (entry.rows, entry.pieces, entry.tokens):
        raise ShardError(f"{path} holds (rows, pieces, tokens) {counts}, which is not what the manifest says")
    return shard


def map_columns(path: Path, entry: ShardEntry, manifest: Manifest, names: Sequence[str]) -> dict[str, Ragged]:
    """Maps some columns of a shard; raises ShardError if its size, one of them, or a dtype is not as it should be."""
    check_size(path, entry)
    try:
        with pa.memory_map(
            os.fsencode(path)
        ) as file:  # closing gives the descriptor back; what is read stays mapped
            table = pa.ipc.open_stream(file).read_all()
        columns = {name: Ragged.from_arrow(table.column(name)) for name in names}
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise ShardError(f"{path} is not a readable shard: {error}") from error
    kinds = {name: str(column.values.dtype) for name, column in columns.items()}
    if kinds != column_dtypes(np.dtype(manifest.dtype), names):
        found = ", ".join(kinds.values())
        raise ShardError(f"{path} has columns of {found}, which are not those of the format")
    return columns
