"""LitData's chunks for its ``TokensLoader``: LitGPT and Lightning read them. An item for each document.

Layout: README.md, after ``litdata/streaming/writer.py`` and ``item_loader.py`` of Lightning-AI/litData.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tersely.corpus.formats.documents import Column, cuts, documents
from tersely.corpus.formats.output import Output, signed
from tersely.errors import UsageError
from tersely.shards import ShardFolder

_CODES = {"uint8": 11, "int32": 16, "uint16": 20}
_CHUNK_TOKENS = 1 << 24
_MOST = (1 << 32) - 1
_ONE_TENSOR = [1, {"type": None, "context": None, "children_spec": []}]


def write_litdata(folder: ShardFolder, out: Output) -> None:
    """Writes ``chunk-0-0.bin``, ... of 16 million tokens and ``index.json``; labels, if there are some, in ``labels/``, cut
    at the same tokens.

    Raises:
        UsageError: an id is above 2**31 - 1, or a document has 4 GiB or more.
    """
    if "labels" in folder.manifest.columns:
        _write_chunks(folder, out, "labels/", "labels")
    _write_chunks(folder, out, "", "input_ids")


def _write_chunks(folder: ShardFolder, out: Output, prefix: str, column: Column) -> None:
    chunks: list[dict[str, Any]] = []
    stored = folder.manifest.dtype if column == "input_ids" else "int32"
    dtype = np.dtype(stored if stored in _CODES else "int32")
    for shard in folder.shards:
        items = documents(shard, column)
        for start, stop in cuts(items.lengths, _CHUNK_TOKENS):
            part = items[start:stop]
            count = len(part)
            offsets = part.offsets * dtype.itemsize + 4 * (count + 2)
            if int(offsets[-1]) > _MOST:
                raise UsageError(
                    f"a document of {part.max_seqlen} tokens does not fit a LitData chunk of 4 GiB: convert to memmap"
                )
            filename = f"chunk-0-{len(chunks)}.bin"
            with out.file(prefix + filename) as file:
                file.write(np.concatenate([[count], offsets]).astype(np.uint32))
                file.write(signed(part.values, "LitData"))
            tokens = len(part.values)
            chunks.append(
                {"chunk_bytes": file.size, "chunk_size": count, "dim": tokens, "filename": filename}
            )
            out.advance(tokens)
    config = {
        "chunk_bytes": _CHUNK_TOKENS * dtype.itemsize,
        "chunk_size": None,
        "compression": None,
        "data_format": [f"no_header_tensor:{_CODES[str(dtype)]}"],
        "data_spec": json.dumps(_ONE_TENSOR),
        "encryption": None,
        "item_loader": "TokensLoader",
    }
    with out.file(prefix + "index.json") as file:
        file.write(json.dumps({"chunks": chunks, "config": config}, sort_keys=True).encode())
