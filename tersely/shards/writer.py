"""Writes prepared folders: packed rows as Arrow files that ``datasets.load_from_disk`` opens. README.md has the layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from tersely.errors import ShardError
from tersely.ragged import Ragged
from tersely.shards.atomic import replace_file, whole_file
from tersely.shards.fields import FIELDS_NAME
from tersely.shards.manifest import Manifest, ShardEntry

_HASH_BLOCK = 1 << 22


class ShardWriter:
    """Writes the shards of one folder, numbered from 0, each whole or not at all.

    Args:
        folder: an existing folder.
        dtype: numpy dtype of ``input_ids``.
        vocab_size: ids must be below it.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any], vocab_size: int) -> None:
        self.folder = folder
        self.dtype = np.dtype(dtype)
        self.vocab_size = vocab_size
        self.shards: list[ShardEntry] = []

    def write(
        self, rows: Ragged, seq_lengths: Ragged, document_ids: Ragged, document_starts: Ragged
    ) -> ShardEntry:
        """Writes the next shard.

        Args:
            rows: ids of each packed row.
            seq_lengths: for each row the lengths of its pieces; they sum to the length of the row.
            document_ids: for each piece the number of its document in the corpus.
            document_starts: for each piece its first token in the document.

        Raises:
            ShardError: an id does not fit the vocabulary or the dtype (nothing is written, nothing wraps), or the
                pieces of the rows do not add up.
        """
        self._check(rows, seq_lengths)
        table = pa.record_batch(
            [
                _list_array(rows, self.dtype),
                _list_array(seq_lengths, np.dtype(np.int32)),
                _list_array(document_ids, np.dtype(np.int64)),
                _list_array(document_starts, np.dtype(np.int64)),
            ],
            schema=_schema(self.dtype),
        )
        path = self.folder / f"data-{len(self.shards):05d}.arrow"
        with whole_file(path) as temporary:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_batch(table)
            size, checksum = temporary.stat().st_size, file_checksum(temporary)
        entry = ShardEntry(
            name=path.name,
            rows=len(rows),
            pieces=len(seq_lengths.values),
            tokens=len(rows.values),
            size=size,
            xxh3_128=checksum,
        )
        self.shards.append(entry)
        return entry

    def finish(self, manifest: Manifest) -> Manifest:
        """Makes the folder one that ``datasets.load_from_disk`` opens, then writes the manifest.

        The manifest is completed with the shards written, and the checksums of the folder's other files.
        """
        info = {
            "features": _features(self.dtype),
            "description": "",
            "citation": "",
            "homepage": "",
            "license": "",
        }
        replace_file(self.folder / "dataset_info.json", json.dumps(info, indent=2).encode())
        fingerprint = xxhash.xxh3_64_hexdigest("".join(shard.xxh3_128 for shard in self.shards).encode())
        state = {
            "_data_files": [{"filename": shard.name} for shard in self.shards],
            "_fingerprint": fingerprint,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        replace_file(self.folder / "state.json", json.dumps(state, indent=2).encode())
        names = ("dataset_info.json", FIELDS_NAME, "quarantine.jsonl", "state.json")
        others = [self.folder / name for name in names]
        others += sorted((self.folder / "tokenizer").rglob("*"))
        files = {
            path.relative_to(self.folder).as_posix(): file_checksum(path) for path in others if path.is_file()
        }
        manifest = replace(manifest, shards=list(self.shards), files=files)
        manifest.save(self.folder)
        return manifest

    def _check(self, rows: Ragged, seq_lengths: Ragged) -> None:
        if len(rows.values) >= 2**31:
            raise ShardError(f"a shard of {len(rows.values)} tokens is too large: at most 2**31 - 1")
        if len(rows.values):
            largest = int(rows.values.max())
            if largest >= self.vocab_size or largest > np.iinfo(self.dtype).max or int(rows.values.min()) < 0:
                raise ShardError(
                    f"id {largest} does not fit a vocabulary of {self.vocab_size} ids stored as {self.dtype}: "
                    "the tokenizer's vocab_size is wrong"
                )
        totals = np.concatenate([[0], np.cumsum(seq_lengths.values, dtype=np.int64)])[seq_lengths.offsets]
        if not np.array_equal(totals, rows.offsets):
            raise ShardError("seq_lengths do not sum to the lengths of the rows")


def file_checksum(path: Path) -> str:
    """xxh3-128 of a file, 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


_COLUMNS = ("input_ids", "seq_lengths", "document_ids", "document_starts")


def _column_dtypes(ids: np.dtype[Any]) -> dict[str, str]:
    return dict(zip(_COLUMNS, (str(ids), "int32", "int64", "int64"), strict=True))


def _schema(ids: np.dtype[Any]) -> pa.Schema:
    columns = [(name, pa.list_(pa.type_for_alias(kind))) for name, kind in _column_dtypes(ids).items()]
    metadata = {"huggingface": json.dumps({"info": {"features": _features(ids)}})}
    return pa.schema(columns, metadata=metadata)


def _features(ids: np.dtype[Any]) -> dict[str, Any]:
    return {
        name: {"feature": {"dtype": kind, "_type": "Value"}, "_type": "List"}
        for name, kind in _column_dtypes(ids).items()
    }


def _list_array(rows: Ragged, dtype: np.dtype[Any]) -> pa.Array:
    return Ragged(rows.values.astype(dtype, copy=False), rows.offsets).to_arrow(large=False)
