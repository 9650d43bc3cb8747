"""Writes prepared folders: packed rows as Arrow files that ``datasets.load_from_disk`` opens. README.md has the layout."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from tersely.errors import ShardError
from tersely.ragged import Ragged
from tersely.shards.atomic import replace_file, whole_file
from tersely.shards.columns import Shard, features, required_columns, to_record_batch
from tersely.shards.manifest import Manifest, ShardEntry

QUARANTINE_NAME = "quarantine.jsonl"
"""The file in a prepared folder with a line for each record that is no document."""

_HASH_BLOCK = 1 << 22


def write_shard(
    path: Path, shard: Shard, *, dtype: np.dtype[Any], vocab_size: int, documents: int, fields: str = ""
) -> ShardEntry:
    """Writes a shard, whole or not at all.

    Args:
        path: the file, replaced if it is there.
        shard: its rows.
        dtype: numpy dtype of ``input_ids``.
        vocab_size: ids must be below it.
        documents: documents in the shard, those included that were dropped for their length.
        fields: the name of the file with their fields, if they have any.

    Raises:
        ShardError: an id does not fit the vocabulary or the dtype (nothing is written, nothing wraps), or the
            pieces or words of the rows do not add up.
    """
    _check(shard, np.dtype(dtype), vocab_size)
    batch = to_record_batch(shard, np.dtype(dtype))
    with whole_file(path) as temporary:
        with pa.OSFile(os.fsencode(temporary), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        size, checksum = temporary.stat().st_size, file_checksum(temporary)
    return ShardEntry(
        name=path.name,
        rows=len(shard.input_ids),
        pieces=len(shard.seq_lengths.values),
        tokens=len(shard.input_ids.values),
        documents=documents,
        size=size,
        xxh3_128=checksum,
        fields=fields,
    )


def finish_folder(folder: Path, manifest: Manifest) -> Manifest:
    """Makes a folder of shards one that ``datasets.load_from_disk`` opens, then writes the manifest.

    The manifest is completed with the checksums of the folder's other files.
    """
    names = required_columns(manifest.columns)
    described = {"features": features(np.dtype(manifest.dtype), names)}
    info = described | dict.fromkeys(("description", "citation", "homepage", "license"), "")
    replace_file(folder / "dataset_info.json", json.dumps(info, indent=2).encode())
    fingerprint = xxhash.xxh3_64_hexdigest("".join(shard.xxh3_128 for shard in manifest.shards).encode())
    state = {
        "_data_files": [{"filename": shard.name} for shard in manifest.shards],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    replace_file(folder / "state.json", json.dumps(state, indent=2).encode())
    others = [folder / name for name in ("dataset_info.json", "state.json", QUARANTINE_NAME)]
    others = [path for path in (*others, *sorted((folder / "tokenizer").rglob("*"))) if path.is_file()]
    others += [folder / shard.fields for shard in manifest.shards if shard.fields]
    files = {path.relative_to(folder).as_posix(): file_checksum(path) for path in others}
    manifest = replace(manifest, files=files)
    manifest.save(folder)
    return manifest


def _check(shard: Shard, dtype: np.dtype[Any], vocab_size: int) -> None:
    rows = shard.input_ids
    if len(rows.values) >= 2**31:
        raise ShardError(f"a shard of {len(rows.values)} tokens is too large: at most 2**31 - 1")
    if len(rows.values):
        largest = int(rows.values.max())
        if largest >= vocab_size or largest > np.iinfo(dtype).max or int(rows.values.min()) < 0:
            raise ShardError(
                f"id {largest} does not fit a vocabulary of {vocab_size} ids stored as {dtype}: "
                "the tokenizer's vocab_size is wrong"
            )
    for name in ("seq_lengths", "word_lengths"):
        lengths: Ragged | None = getattr(shard, name)
        if lengths is not None and not np.array_equal(sums(lengths), rows.offsets):
            raise ShardError(f"{name} do not sum to the lengths of the rows")
    if shard.labels is not None and not np.array_equal(shard.labels.offsets, rows.offsets):
        raise ShardError("there is not one label for each id")


def sums(lengths: Ragged) -> np.ndarray[Any, Any]:
    """Where the rows end, whose pieces or words have these lengths: shape ``(rows + 1,)``, from 0, int64."""
    return np.concatenate([[0], np.cumsum(lengths.values, dtype=np.int64)])[lengths.offsets]


def file_checksum(path: Path) -> str:
    """xxh3-128 of a file, 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
