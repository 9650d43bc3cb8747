"""Where every document of a folder is: its pieces, put into the order of the corpus.

shard 0: document_ids 2 0 1 0        pieces of document 0, of 1, of 2, and so on from shard to shard
         document_starts 0 0 0 7
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tersely.errors import ShardError
from tersely.shards.columns import Shard
from tersely.shards.manifest import ShardEntry


@dataclass(frozen=True)
class StoredPieces:
    """Where the pieces of every stored document are, in document order; 20 bytes for a document of one piece.

    Attributes:
        shard: the shard of each piece, shape ``(pieces,)``, int32.
        offset: its first token's place among the ids of the shard, ``(pieces,)``, int32 (a shard is below 2**31).
        length: its tokens, ``(pieces,)``, int32.
        first: ``first[d]:first[d + 1]`` are the pieces of the ``d``-th stored document, in token order;
            ``(documents + 1,)``, int64.
    """

    shard: np.ndarray[Any, Any]
    offset: np.ndarray[Any, Any]
    length: np.ndarray[Any, Any]
    first: np.ndarray[Any, Any]

    @property
    def document_lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of every stored document, int64."""
        if len(self.first) == 1:
            return np.empty(0, np.int64)
        return np.add.reduceat(self.length, self.first[:-1], dtype=np.int64)


def index_pieces(shards: Iterable[Shard], entries: Sequence[ShardEntry]) -> StoredPieces:
    """The index of these shards, which are looked at one after another. Costs about a tenth of a second for a million.

    Raises:
        ShardError: a shard names a document outside those that the manifest says it has.
    """
    total = sum(entry.pieces for entry in entries)
    shard, offset, length = (np.empty(total, np.int32) for _ in range(3))
    opens = np.empty(total, np.bool_)
    done = 0
    for number, (part, entry) in enumerate(zip(shards, entries, strict=True)):
        document, lengths = part.document_ids.values, part.seq_lengths.values
        if len(document) and not 0 <= int(document.min()) <= int(document.max()) < entry.documents:
            raise ShardError(
                f"{entry.name} names a document outside the {entry.documents} that it has: verify it"
            )
        order = _document_order(document, part.document_starts.values, entry.documents)
        here = slice(done, done + len(order))
        shard[here] = number
        offset[here] = (np.cumsum(lengths, dtype=np.int64) - lengths)[order]
        length[here] = lengths[order]
        opens[here] = np.diff(document[order], prepend=-1) != 0
        done += len(order)
    return StoredPieces(shard, offset, length, np.append(np.flatnonzero(opens), total))


def _document_order(
    document: np.ndarray[Any, Any], start: np.ndarray[Any, Any], documents: int
) -> np.ndarray[Any, Any]:
    """The pieces by document and then by start: nearly all documents have one piece, which needs no sorting."""
    counts = np.bincount(document, minlength=documents)
    place = np.cumsum(counts) - counts
    order = np.empty(len(document), np.int64)
    several = counts[document] > 1
    alone = np.flatnonzero(~several)
    order[place[document[alone]]] = alone
    rest = np.flatnonzero(several)
    rest = rest[np.lexsort((start[rest], document[rest]))]
    order[np.flatnonzero(np.repeat(counts > 1, counts))] = rest
    return order
