"""MDS, the shards of mosaicml-streaming: Composer and ``StreamingDataset`` read them. A sample for each packed row.

Layout: README.md, after the format pages of mosaicml/streaming.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import xxhash

from tersely.corpus.formats.documents import cuts
from tersely.corpus.formats.output import Output
from tersely.errors import UsageError
from tersely.gather import gather_rows
from tersely.ragged import Ragged
from tersely.shards import ShardFolder

_COLUMNS = ("input_ids", "labels", "seq_lengths", "word_lengths")
_SIZE_LIMIT = 1 << 26
_MOST = (1 << 32) - 1
_PREFIX = np.dtype([("shape", "u1"), ("length", "<u4")])
"""What stands before an array: its axes and the width of their lengths, then the lengths (of which the low bytes)."""


def write_mds(folder: ShardFolder, out: Output) -> None:
    """Writes ``shard.00000.mds``, ... below 64 MiB (a larger row is alone in its shard) and ``index.json``.

    Raises:
        UsageError: a row has 4 GiB or more.
    """
    config: dict[str, Any] = {}
    shards: list[dict[str, Any]] = []
    with ThreadPoolExecutor(1) as beside:
        for shard in folder.shards:
            columns = {name: shard.columns[name] for name in _COLUMNS if name in shard.columns}
            config = config or _config(columns)
            head = json.dumps(config, sort_keys=True).encode()
            rows = list(columns.values())
            for start, stop in cuts(_sample_sizes(rows) + 4, _SIZE_LIMIT - 8 - len(head)):
                basename = f"shard.{len(shards):05d}.mds"
                parts = _encode(head, [column[start:stop] for column in rows])
                hashes = beside.submit(
                    _hashes, parts
                )  # SHA-1 takes longer than all else, so not before the disk
                with out.file(basename) as file:
                    for part in parts:
                        file.write(part)
                raw = {"basename": basename, "bytes": file.size, "hashes": hashes.result()}
                shards.append(config | {"raw_data": raw, "samples": stop - start, "zip_data": None})
                out.advance(int(rows[0].offsets[stop] - rows[0].offsets[start]))
    with out.file("index.json") as file:
        file.write(json.dumps({"shards": shards, "version": 2}, sort_keys=True).encode())


def _config(columns: dict[str, Ragged]) -> dict[str, Any]:
    """What each shard says of itself; the columns are in alphabetical order, as the format has them."""
    return {
        "column_encodings": [f"ndarray:{column.values.dtype}" for column in columns.values()],
        "column_names": list(columns),
        "column_sizes": [None] * len(columns),
        "compression": None,
        "format": "mds",
        "hashes": ["sha1", "xxh3_64"],
        "size_limit": _SIZE_LIMIT,
        "version": 2,
    }


def _hashes(parts: list[np.ndarray[Any, Any]]) -> dict[str, str]:
    sha1, xxh3 = hashlib.sha1(usedforsecurity=False), xxhash.xxh3_64()
    for part in parts:
        sha1.update(part.data)
        xxh3.update(part.data)
    return {"sha1": sha1.hexdigest(), "xxh3_64": xxh3.hexdigest()}


def _prefix_widths(lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.select([lengths < 1 << 8, lengths < 1 << 16], [2, 3], 5)


def _array_sizes(rows: list[Ragged]) -> np.ndarray[Any, Any]:
    """Bytes of each encoded array, shape ``(rows, columns)``, int64."""
    sizes = [_prefix_widths(column.lengths) + column.lengths * column.values.itemsize for column in rows]
    return np.stack(sizes, axis=1)


def _sample_sizes(rows: list[Ragged]) -> np.ndarray[Any, Any]:
    """Bytes of each sample: the sizes of its arrays, 4 bytes each, then the arrays."""
    return _array_sizes(rows).sum(axis=1) + 4 * len(rows)


def _encode(head: bytes, rows: list[Ragged]) -> list[np.ndarray[Any, Any]]:
    """The bytes of a shard, in three parts: counts and offsets, ``head``, samples."""
    count = len(rows[0])
    offsets = np.concatenate([[0], np.cumsum(_sample_sizes(rows))]) + 4 + 4 * (count + 1) + len(head)
    if int(offsets[-1]) > _MOST:
        raise UsageError(
            f"a row of {rows[0].max_seqlen} tokens does not fit an MDS shard of 4 GiB: prepare with a smaller --pack"
        )
    counts = np.concatenate([[count], offsets]).astype(np.uint32)
    return [counts, np.frombuffer(head, np.uint8), _samples(rows)]


def _samples(rows: list[Ragged]) -> np.ndarray[Any, Any]:
    """All samples as uint8: their parts are laid one kind after the other, then gathered row by row."""
    sizes = _array_sizes(rows).astype(np.uint32)
    count, columns = sizes.shape
    lengths = np.stack([column.lengths for column in rows], axis=1)
    widths = _prefix_widths(lengths)
    prefixes = np.empty((count, columns), _PREFIX)
    prefixes["shape"] = 1 << 2 | np.where(widths == 5, 2, widths - 2)
    prefixes["length"] = lengths
    kinds = [sizes.reshape(-1), prefixes.reshape(-1), *(column.values for column in rows)]
    source = np.concatenate([kind.view(np.uint8) for kind in kinds])
    first = np.cumsum([0, *(kind.nbytes for kind in kinds)])
    starts = np.empty((count, 1 + 2 * columns), np.int64)
    taken = np.empty_like(starts)
    each = np.arange(count)
    starts[:, 0], taken[:, 0] = each * 4 * columns, 4 * columns
    for number, column in enumerate(rows):
        width = column.values.itemsize
        starts[:, 1 + 2 * number] = first[1] + (each * columns + number) * _PREFIX.itemsize
        taken[:, 1 + 2 * number] = widths[:, number]
        starts[:, 2 + 2 * number] = first[2 + number] + column.offsets[:-1] * width
        taken[:, 2 + 2 * number] = column.lengths * width
    return gather_rows(source, starts.reshape(-1), np.concatenate([[0], np.cumsum(taken)]))
