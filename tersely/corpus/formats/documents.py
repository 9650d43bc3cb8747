"""The documents of a shard, whole and in the order of the corpus, out of the pieces in its rows.

rows      [doc 1, tokens 4-6 | doc 0]  [doc 1, tokens 0-3]
documents [doc 0]  [doc 1, tokens 0-6]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from tersely.gather import gather_rows
from tersely.ragged import Ragged
from tersely.shards import Shard, ShardFolder

Column = Literal["input_ids", "labels"]


def documents(shard: Shard, column: Column = "input_ids") -> Ragged:
    """The ids or labels of each stored document of a shard, ascending by document; one sort of its pieces, one copy."""
    lengths = shard.seq_lengths.values.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    order = np.lexsort((shard.document_starts.values, shard.document_ids.values))
    ends = _ends(lengths[order])
    opens = np.flatnonzero(np.diff(shard.document_ids.values[order], prepend=-1))
    values = gather_rows(shard.columns[column].values, starts[order], ends)
    return Ragged(values, np.append(ends[opens], ends[-1]))


def document_lengths(shard: Shard) -> np.ndarray[Any, Any]:
    """Tokens of each stored document of a shard, ascending by document; int64."""
    document = shard.document_ids.values
    lengths = np.zeros(int(document.max(initial=-1)) + 1, np.int64)
    np.add.at(lengths, document, shard.seq_lengths.values)
    stored = np.zeros(len(lengths), bool)
    stored[document] = True
    return lengths[stored]


def offset_blocks(folder: ShardFolder) -> Iterator[np.ndarray[Any, Any]]:
    """Where each stored document of the corpus ends, in tokens from the first one on; int64, a block for each shard."""
    total = 0
    for shard in folder.shards:
        yield total + np.cumsum(document_lengths(shard))
        total += len(shard.input_ids.values)


def cuts(sizes: np.ndarray[Any, Any], most: int) -> Iterator[tuple[int, int]]:
    """Ranges ``start, stop`` of items, one after the other, whose sizes sum to at most ``most``; an item above that is
    alone in its range.
    """
    ends = _ends(sizes)
    start = 0
    while start < len(sizes):
        fitting = int(np.searchsorted(ends, ends[start] + most, "right")) - 1
        stop = max(start + 1, fitting)
        yield start, stop
        start = stop


def _ends(lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
