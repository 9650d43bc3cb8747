"""Checks a prepared folder to the last byte."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tersely.errors import ShardError
from tersely.shards.atomic import TEMPORARY
from tersely.shards.columns import IGNORED, Shard
from tersely.shards.fields import read_shard_fields
from tersely.shards.manifest import Manifest, ShardEntry
from tersely.shards.reader import check_size, read_shard
from tersely.shards.writer import QUARANTINE_NAME, file_checksum, sums


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
    stored = np.zeros(len(manifest.sources), np.int64)
    sound = True
    for entry in manifest.shards:
        path = folder / entry.name
        try:
            check_size(path, entry)
            if (found := file_checksum(path)) != entry.xxh3_128:
                raise ShardError(f"{path} has checksum {found}, not {entry.xxh3_128}: its bytes have changed")
            shard = read_shard(path, entry, manifest)
            _check_rows(path, shard, manifest)
            stored += _check_documents(path, shard, entry, len(stored))
        except ShardError as error:
            sound = False
            yield entry.name, str(error)
            continue
        yield entry.name, None
    if sound:
        yield "documents", _missing_documents(stored, manifest)
    entries = {entry.fields: entry for entry in manifest.shards if entry.fields}
    for name in [name for name in entries if name not in manifest.files]:
        yield name, f"{folder / name} has no checksum in the manifest: prepare the corpus again"
    for name, checksum in manifest.files.items():
        path = folder / name
        intact = path.is_file() and not path.is_symlink() and file_checksum(path) == checksum
        fault = None if intact else f"{path} is missing or was changed: copy or prepare it again"
        if intact and name in entries:
            fault = _fields_fault(folder, entries[name])
        elif intact and name == QUARANTINE_NAME:
            fault = _quarantine_fault(path, manifest)
        yield name, fault
    if manifest.quarantined and QUARANTINE_NAME not in manifest.files:
        yield (
            QUARANTINE_NAME,
            f"the manifest counts {manifest.quarantined} records in it, and does not name it",
        )
    yield from _strangers(folder, {entry.name for entry in manifest.shards} | set(manifest.files))


def check_folder(folder: str | Path) -> None:
    """Raises ShardError with the first fault that ``verify`` finds."""
    for _, fault in verify(folder):
        if fault:
            raise ShardError(fault)


def _strangers(folder: Path, known: set[str]) -> Iterator[tuple[str, str]]:
    """Files that a reader could take for those of the manifest."""
    for path in sorted(folder.iterdir()):
        ours = (
            path.match("data-*.arrow") or path.match("documents-*.arrow") or path.name.startswith(TEMPORARY)
        )
        if ours and path.name not in known:
            yield path.name, f"{path} is not in the manifest: it is of another run; remove it"
    for path in sorted((folder / "tokenizer").rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in known and (path.is_symlink() or not path.is_dir()):
            yield name, f"{path} is not in the manifest, and may change the tokenizer: remove it"


def _check_rows(path: Path, shard: Shard, manifest: Manifest) -> None:
    ids = shard.input_ids
    if len(ids.values) and int(ids.values.max()) >= manifest.tokenizer.vocab_size:
        raise ShardError(f"{path} holds the id {int(ids.values.max())}, outside the vocabulary")
    if manifest.packing.capacity and ids.max_seqlen > manifest.packing.capacity:
        raise ShardError(f"{path} has a row of {ids.max_seqlen} tokens, above {manifest.packing.capacity}")
    for name in ("document_ids", "document_starts", "source_ids"):
        if not np.array_equal(shard.columns[name].offsets, shard.seq_lengths.offsets):
            raise ShardError(f"{path}: {name} and seq_lengths disagree on the pieces of a row")
    for name in {"seq_lengths", "word_lengths"} & set(shard.columns):
        if not np.array_equal(sums(shard.columns[name]), ids.offsets):
            raise ShardError(f"{path}: the {name} of a row do not sum to its length")
    if shard.labels is not None:
        labels = shard.labels.values
        if not np.array_equal(shard.labels.offsets, ids.offsets) or not np.all(
            (labels == IGNORED) | (labels == ids.values)
        ):
            raise ShardError(f"{path} has a label that is neither its id nor {IGNORED}")


def _check_documents(path: Path, shard: Shard, entry: ShardEntry, sources: int) -> np.ndarray[Any, Any]:
    """The documents of each source that the shard holds; the pieces of each must follow on from 0 with no gap and no
    overlap.
    """
    document, start = shard.document_ids.values, shard.document_starts.values
    source = shard.source_ids.values
    order = np.lexsort((start, document))
    document, start, source = document[order], start[order], source[order]
    stop = start + shard.seq_lengths.values[order]
    opens = np.diff(document, prepend=-1) != 0
    expected = np.where(opens, 0, np.roll(stop, 1))
    if (wrong := np.flatnonzero(start != expected)).size:
        first = wrong[0]
        raise ShardError(
            f"{path}: document {document[first]} has a piece at token {start[first]} where {expected[first]} comes next"
        )
    for name, values, most in (("document", document, entry.documents), ("source", source, sources)):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < most:
            raise ShardError(f"{path} names a {name} outside the {most} that there are")
    if np.any(source != np.where(opens, source, np.roll(source, 1))):
        raise ShardError(f"{path} has a document of two sources")
    return np.bincount(source[opens], minlength=sources)


def _quarantine_fault(path: Path, manifest: Manifest) -> str | None:
    """Whether each source has as many lines there as the manifest says."""
    lines: Counter[str] = Counter()
    try:
        with path.open(encoding="utf-8") as file:
            lines.update(json.loads(line)["source"] for line in file)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{path} cannot be read: {error}"
    for source in manifest.sources:
        if lines[source.name] != source.quarantined:
            return f"{path} has {lines[source.name]} records of {source.name}, the manifest says {source.quarantined}"
    return None


def _fields_fault(folder: Path, entry: ShardEntry) -> str | None:
    try:
        read_shard_fields(folder, entry).validate(full=True)
    except (ShardError, pa.ArrowException) as error:
        return f"{folder / entry.fields}: {error}" if isinstance(error, pa.ArrowException) else str(error)
    return None


def _missing_documents(stored: np.ndarray[Any, Any], manifest: Manifest) -> str | None:
    """``stored`` are the documents of each source in all shards."""
    given = np.array([source.documents for source in manifest.sources], np.int64)
    if int(stored.sum()) != manifest.documents - manifest.dropped_documents:
        return f"{stored.sum()} documents are stored, the manifest says {manifest.documents - manifest.dropped_documents}"
    if (wrong := np.flatnonzero(stored > given)).size:
        name = manifest.sources[wrong[0]].name
        return f"{stored[wrong[0]]} documents of {name} are stored, it gave {given[wrong[0]]}"
    return None
