"""Prepared folders written shard by shard, whose ids say which token of which document they are."""

import numpy as np

from tersely.pack import plan
from tersely.ragged import Ragged
from tersely.shards import (
    IGNORED,
    Manifest,
    Packing,
    Shard,
    SourceEntry,
    TokenizerEntry,
    finish_folder,
    write_shard,
)

PER_DOCUMENT = 1000
"""Token ``t`` of document ``d`` of the corpus is ``d * PER_DOCUMENT + t``."""


def write_folder(path, shards, capacity=64, labels=False, fingerprint="0"):
    """A folder whose shards have documents of these lengths, cut and packed into shuffled rows of ``capacity``.

    With labels, tokens at odd places are not trained on.
    """
    path.mkdir()
    entries, documents = [], 0
    for number, lengths in enumerate(shards):
        lengths = np.array(lengths, np.int64)
        flat = Ragged.from_rows([np.arange(n) for n in lengths], np.int64)
        ids = Ragged(flat.values + (flat.segment_ids + documents) * PER_DOCUMENT, flat.offsets)
        packed = plan(lengths, capacity, "next-fit").shuffled(number)
        order, offsets = packed.bins.values, packed.bins.offsets
        rows = packed.gather(ids)
        trained = np.where(rows.values % 2 == 0, rows.values, IGNORED).astype(np.int32)
        shard = Shard(
            input_ids=rows,
            seq_lengths=packed.seq_lengths,
            document_ids=packed.documents,
            document_starts=Ragged(packed.pieces.start[order], offsets),
            source_ids=Ragged(np.zeros(len(order), np.int32), offsets),
            labels=Ragged(trained, rows.offsets) if labels else None,
        )
        name = f"data-00000-{number:05d}.arrow"
        options = dict(dtype=np.dtype(np.uint32), vocab_size=2**31, documents=len(lengths))
        entries.append(write_shard(path / name, shard, **options))
        documents += len(lengths)
    nothing = dict(bos_id=None, eos_id=None, pad_id=None, bos=False, eos=False)
    counts = dict(records_in=documents, documents=documents, empty=0, quarantined=0, bytes=0)
    manifest = Manifest(
        tersely="0",
        tokenizer=TokenizerEntry(spec="bytes", fingerprint=fingerprint * 64, vocab_size=2**31, **nothing),
        packing=Packing(capacity=capacity, strategy="best-fit", overflow="split", seed=0),
        dtype="uint32",
        columns=["labels"] if labels else [],
        sources=[SourceEntry(name="numbers", **counts)],
        shards=entries,
    )
    finish_folder(path, manifest)
    return path


def some_lengths(documents, seed=0, longest=300):
    """Skewed lengths, from 1 on."""
    return np.minimum(np.random.default_rng(seed).geometric(0.03, documents), longest).tolist()


def first(rows):
    """A collate function for batches of one row."""
    return rows[0]


def key(row):
    """A row as something that can be compared and counted."""
    return row["input_ids"].tobytes(), row["seq_lengths"].tobytes()


def keys(rows):
    return [key(row) for row in rows]


def take(iterator, n):
    return [key(next(iterator)) for _ in range(n)]
