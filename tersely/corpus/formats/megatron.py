"""Megatron's indexed dataset, ``tokens.bin`` with ``tokens.idx``: Megatron-LM, NeMo and GPT-NeoX read it.

A sequence for each document. Layout: README.md, after ``megatron/core/datasets/indexed_dataset.py`` of Megatron-LM.
"""

from __future__ import annotations

import struct

import numpy as np

from tersely.corpus.formats.documents import Column, document_lengths, documents, offset_blocks
from tersely.corpus.formats.output import Output, SummedFile, signed
from tersely.shards import ShardFolder

_MAGIC, _VERSION = b"MMIDIDX\0\0", 1
_CODES = {"uint8": 1, "int32": 4, "uint16": 8}
_BLOCK = 1 << 20


def write_megatron(folder: ShardFolder, out: Output) -> None:
    """Writes ``tokens.bin`` and ``tokens.idx``; with labels also the pair ``labels``, of the same shape, int32.

    Raises:
        UsageError: an id is above 2**31 - 1.
    """
    if "labels" in folder.manifest.columns:
        _write_pair(folder, out, "labels", "labels")
    _write_pair(folder, out, "tokens", "input_ids")


def _write_pair(folder: ShardFolder, out: Output, name: str, column: Column) -> None:
    with out.file(f"{name}.bin") as file:
        for shard in folder.shards:
            values = signed(documents(shard, column).values, "Megatron")
            file.write(values)
            out.advance(len(values))
    stored = folder.manifest.dtype if column == "input_ids" else "int32"
    with out.file(f"{name}.idx") as file:
        _write_index(file, folder, np.dtype(stored if stored in _CODES else "int32"))


def _write_index(file: SummedFile, folder: ShardFolder, dtype: np.dtype) -> None:
    """A pass over the lengths of documents for each part of the index, so that none of it is held in memory."""
    count = sum(len(document_lengths(shard)) for shard in folder.shards)
    file.write(_MAGIC + struct.pack("<QBQQ", _VERSION, _CODES[str(dtype)], count, count + 1))
    for shard in folder.shards:
        file.write(document_lengths(shard).astype(np.int32))
    for shard, ends in zip(folder.shards, offset_blocks(folder), strict=True):
        file.write((ends - document_lengths(shard)) * dtype.itemsize)
    for start in range(0, count + 1, _BLOCK):
        file.write(np.arange(start, min(start + _BLOCK, count + 1), dtype=np.int64))
