"""A flat file of ids with offsets, for whatever maps memory: nanoGPT, OLMo-core, torchtitan, your own. README.md has it."""

from __future__ import annotations

import json

import numpy as np

from tersely.corpus.formats.documents import document_lengths, documents, offset_blocks
from tersely.corpus.formats.output import Output
from tersely.shards import IGNORED, ShardFolder


def write_memmap(folder: ShardFolder, out: Output) -> None:
    """Writes ``tokens.bin``, ``labels.bin`` if there are labels, ``offsets.npy`` and ``meta.json``."""
    manifest = folder.manifest
    labels = "labels" in manifest.columns
    with out.file("tokens.bin") as file:
        for shard in folder.shards:
            file.write(documents(shard).values)
            out.advance(len(shard.input_ids.values))
    if labels:
        with out.file("labels.bin") as file:
            for shard in folder.shards:
                file.write(documents(shard, "labels").values)
                out.advance(len(shard.input_ids.values))
    count = sum(len(document_lengths(shard)) for shard in folder.shards)
    with out.file("offsets.npy") as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (count + 1,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(np.zeros(1, np.int64))
        for ends in offset_blocks(folder):
            file.write(ends)
    tokenizer = manifest.tokenizer
    meta = {
        "dtype": manifest.dtype,
        "byteorder": "little",
        "tokens": manifest.tokens,
        "documents": count,
        "labels": "int32" if labels else None,
        "ignored_label": IGNORED if labels else None,
        "tokenizer": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
        "pad_id": tokenizer.pad_id,
        "bos": tokenizer.bos,
        "eos": tokenizer.eos,
    }
    with out.file("meta.json") as file:
        file.write(json.dumps(meta, indent=2).encode() + b"\n")
