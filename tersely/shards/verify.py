"""Checks a prepared folder to the last byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tersely.errors import ShardError
from tersely.shards.atomic import TEMPORARY
from tersely.shards.fields import FIELDS_NAME, read_fields
from tersely.shards.manifest import Manifest
from tersely.shards.reader import Shard, check_size, read_shard
from tersely.shards.writer import file_checksum


def verify(folder: str | Path) -> Iterator[tuple[str, str | None]]:
    """Checks the manifest and then each shard: (what was checked, what is wrong or None), as it goes.

    Checked are the counts and the checksum of the manifest; size, checksum, columns and row counts of each shard; that
    ids are in the vocabulary, rows within capacity and made of their pieces, and that every document is stored once;
    the checksum of every other file; that the fields of documents, where there are some, are as many; and that there
    are no shards and no files of a tokenizer besides.
    """
    folder = Path(folder)
    try:
        manifest = Manifest.load(folder)
    except ShardError as error:
        yield "manifest.json", str(error)
        return
    yield "manifest.json", None
    spans: list[np.ndarray] = [np.empty((0, 3), np.int64)]
    for entry in manifest.shards:
        path = folder / entry.name
        try:
            check_size(path, entry)
            if (found := file_checksum(path)) != entry.xxh3_128:
                raise ShardError(f"{path} has checksum {found}, not {entry.xxh3_128}: its bytes have changed")
            shard = read_shard(path, entry, manifest.dtype)
            _check_shard(path, shard, manifest)
        except ShardError as error:
            yield entry.name, str(error)
            continue
        lengths, starts = shard.seq_lengths.values, shard.document_starts.values
        spans.append(np.stack([shard.document_ids.values, starts, starts + lengths], axis=1))
        yield entry.name, None
    if len(spans) == len(manifest.shards) + 1:
        yield "documents", _document_fault(np.concatenate(spans), manifest)
    for name, checksum in manifest.files.items():
        path = folder / name
        sound = path.is_file() and not path.is_symlink() and file_checksum(path) == checksum
        fault = None if sound else f"{path} is missing or was changed: copy or prepare it again"
        yield name, _fields_fault(folder, manifest) if sound and name == FIELDS_NAME else fault
    yield from _strangers(folder, {entry.name for entry in manifest.shards} | set(manifest.files))


def _strangers(folder: Path, known: set[str]) -> Iterator[tuple[str, str]]:
    """Files that a reader could take for those of the manifest."""
    for path in sorted(folder.iterdir()):
        ours = path.match("data-*.arrow") or path.name == FIELDS_NAME or path.name.startswith(TEMPORARY)
        if ours and path.name not in known:
            yield path.name, f"{path} is not in the manifest: it is of another run; remove it"
    for path in sorted((folder / "tokenizer").rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in known and (path.is_symlink() or not path.is_dir()):
            yield name, f"{path} is not in the manifest, and may change the tokenizer: remove it"


def _check_shard(path: Path, shard: Shard, manifest: Manifest) -> None:
    ids = shard.input_ids
    if len(ids.values) and int(ids.values.max()) >= manifest.tokenizer.vocab_size:
        raise ShardError(f"{path} holds the id {int(ids.values.max())}, outside the vocabulary")
    if manifest.packing.capacity and ids.max_seqlen > manifest.packing.capacity:
        raise ShardError(f"{path} has a row of {ids.max_seqlen} tokens, above {manifest.packing.capacity}")
    for name in ("document_ids", "document_starts"):
        if not np.array_equal(getattr(shard, name).offsets, shard.seq_lengths.offsets):
            raise ShardError(f"{path}: {name} and seq_lengths disagree on the pieces of a row")
    ends = np.concatenate([[0], np.cumsum(shard.seq_lengths.values, dtype=np.int64)])
    if not np.array_equal(ends[shard.seq_lengths.offsets], ids.offsets):
        raise ShardError(f"{path}: the pieces of a row do not sum to its length")


def _fields_fault(folder: Path, manifest: Manifest) -> str | None:
    try:
        read_fields(folder, manifest).validate(full=True)
    except (ShardError, pa.ArrowException) as error:
        return f"{folder / FIELDS_NAME}: {error}" if isinstance(error, pa.ArrowException) else str(error)
    return None


def _document_fault(spans: np.ndarray, manifest: Manifest) -> str | None:
    """Pieces as (document, start, stop): each document's must follow on from 0 with no gap and no overlap."""
    spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
    if len(spans) == 0:
        stored = 0
    else:
        opens = np.diff(spans[:, 0], prepend=-1) != 0
        expected = np.where(opens, 0, np.roll(spans[:, 2], 1))
        if (wrong := np.flatnonzero(spans[:, 1] != expected)).size:
            document, start, _ = spans[wrong[0]]
            return f"document {document} has a piece at token {start} where {expected[wrong[0]]} comes next"
        stored = int(opens.sum())
    if stored != manifest.documents - manifest.dropped_documents:
        return f"{stored} documents are stored, the manifest says {manifest.documents - manifest.dropped_documents}"
    return None
