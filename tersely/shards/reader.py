"""Reads prepared folders: maps the shards into memory and finds each document in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from tersely.errors import ShardError
from tersely.ragged import Ragged
from tersely.shards.columns import Shard, column_dtypes, required_columns
from tersely.shards.fields import read_fields
from tersely.shards.manifest import Manifest, ShardEntry


@dataclass(frozen=True)
class StoredPieces:
    """Where the pieces of every document are, in document order; vectors of shape ``(pieces,)``, int64.

    ``first[d]:first[d + 1]`` are the pieces of the ``d``-th stored document, in token order.
    """

    shard: np.ndarray[Any, Any]
    offset: np.ndarray[Any, Any]
    length: np.ndarray[Any, Any]
    first: np.ndarray[Any, Any]


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

    Raises:
        ShardError: no manifest, or a shard is missing or of another size than the manifest says.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = Manifest.load(path)
        for entry in self.manifest.shards:
            check_size(self.path / entry.name, entry)

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes map the files themselves."""
        return ShardFolder, (self.path,)

    @cached_property
    def shards(self) -> list[Shard]:
        """All shards, mapped into memory."""
        return [read_shard(self.path / entry.name, entry, self.manifest) for entry in self.manifest.shards]

    @cached_property
    def pieces(self) -> StoredPieces:
        """Every stored piece, grouped by document."""
        columns = [
            (np.full(len(shard.seq_lengths.values), number), shard.seq_lengths.values, shard)
            for number, shard in enumerate(self.shards)
        ]
        shard = _joined([number for number, _, _ in columns])
        length = _joined([lengths for _, lengths, _ in columns])
        offset = _joined([np.cumsum(lengths, dtype=np.int64) - lengths for _, lengths, _ in columns])
        document = self._piece_documents()
        start = _joined([part.document_starts.values for _, _, part in columns])
        order = np.lexsort((start, document))
        new_document = np.diff(document[order], prepend=-1) != 0
        first = np.append(np.flatnonzero(new_document), len(order))
        return StoredPieces(shard[order], offset[order], length[order], first)

    def _piece_documents(self) -> np.ndarray[Any, Any]:
        """For each stored piece, in the order of the files, the id of its document."""
        firsts = self.manifest.first_documents
        return _joined(
            [shard.document_ids.values + first for shard, first in zip(self.shards, firsts, strict=True)]
        )

    @cached_property
    def document_lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of every stored document, in the order of the corpus, int64."""
        ends = np.concatenate([[0], np.cumsum(self.pieces.length)])
        return np.diff(ends[self.pieces.first])

    @cached_property
    def document_ids(self) -> np.ndarray[Any, Any]:
        """The id of every stored document: 0, 1, 2, ... unless some were dropped for their length; int64, ascending."""
        return np.unique(self._piece_documents())

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
        sources = [source.name for source in self.manifest.sources]
        for shard, first in zip(self.shards, self.manifest.first_documents, strict=True):
            if index < len(shard.input_ids):
                lengths = shard.seq_lengths[index].astype(np.int64)
                columns = (shard.document_ids[index] + first, shard.document_starts[index], lengths)
                names = [sources[number] for number in shard.source_ids[index].tolist()]
                places = [
                    Place(*numbers) for numbers in zip(*(c.tolist() for c in columns), names, strict=True)
                ]
                offsets = np.concatenate([[0], np.cumsum(lengths)])
                labels = None if shard.labels is None else shard.labels[index]
                words = None if shard.word_lengths is None else shard.word_lengths[index]
                return StoredRow(Ragged(shard.input_ids[index], offsets), places, labels, words)
            index -= len(shard.input_ids)
        raise AssertionError("the manifest counts more rows than the shards hold")

    def fields_of(self, document: int) -> dict[str, str]:
        """What its source gave beside the document of this id: its row of ``document_fields``."""
        table = self.document_fields
        return {name: table.column(name)[document].as_py() for name in table.column_names}

    def tokens(
        self, document: int, start: int, stop: int, column: Literal["input_ids", "labels"] = "input_ids"
    ) -> np.ndarray[Any, Any]:
        """Tokens ``start`` to ``stop`` of the ``document``-th stored document (a view of the file if in one piece), or
        their labels, if the folder has that column.
        """
        pieces = self.pieces
        parts: list[np.ndarray[Any, Any]] = []
        for piece in range(int(pieces.first[document]), int(pieces.first[document + 1])):
            length = int(pieces.length[piece])
            if start < length and stop > 0:
                values = self.shards[int(pieces.shard[piece])].columns[column].values
                offset = int(pieces.offset[piece])
                parts.append(values[offset + max(start, 0) : offset + min(stop, length)])
            start, stop = start - length, stop - length
        if len(parts) == 1:
            return parts[0]
        empty = np.empty(0, self.manifest.dtype if column == "input_ids" else np.int32)
        return np.concatenate(parts) if parts else empty


def check_size(path: Path, entry: ShardEntry) -> None:
    """Raises ShardError unless the shard is a plain file of the size that the manifest says."""
    if path.is_symlink():
        raise ShardError(f"{path} is a symbolic link, which a shard must not be: put the file itself there")
    if not path.is_file():
        raise ShardError(f"{path} is missing: the folder was copied in part, or the shard was deleted")
    if path.stat().st_size != entry.size:
        raise ShardError(
            f"{path} has {path.stat().st_size} bytes, the manifest says {entry.size}: copy or prepare it again"
        )


def read_shard(path: Path, entry: ShardEntry, manifest: Manifest) -> Shard:
    """Maps a shard. Raises ShardError if it is not an Arrow file of our layout, with the columns and the dtype that the
    manifest names and the counts of ``entry``.
    """
    names = required_columns(manifest.columns)
    try:
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        columns = {name: Ragged.from_arrow(table.column(name)) for name in names}
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise ShardError(f"{path} is not a readable shard: {error}") from error
    kinds = {name: str(column.values.dtype) for name, column in columns.items()}
    if kinds != column_dtypes(np.dtype(manifest.dtype), names):
        found = ", ".join(kinds.values())
        raise ShardError(f"{path} has columns of {found}, which are not those of the format")
    shard = Shard(**columns)
    counts = (len(shard.input_ids), len(shard.seq_lengths.values), len(shard.input_ids.values))
    if counts != (entry.rows, entry.pieces, entry.tokens):
        raise ShardError(f"{path} holds (rows, pieces, tokens) {counts}, which is not what the manifest says")
    return shard


def _joined(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)
