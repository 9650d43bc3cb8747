"""One pass over the shards of a folder, one mapped at a time: sums for each source, lengths, and documents to plan with.

Memory does not grow with the shards: it holds some numbers for each source, one for each length that occurs, and up to
four million lengths of documents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tersely.corpus.inspection.lengths import LengthCounter, Lengths
from tersely.errors import ShardError
from tersely.shards import IGNORED, Manifest, Shard, ShardEntry, ShardFolder
from tersely.shards.reader import read_shard

OnProgress: TypeAlias = "Callable[[str, int, int], None]"
"""Is called with what is being done, how much of it is done, and how much there is."""

MOST_PLANNED = 1 << 22
"""Of more documents than these, only as many keep their lengths in order, for plans."""


@dataclass
class SourceSums:
    """Sums over the stored pieces of each source; vectors of shape ``(sources,)``, int64 but for ``padding``.

    Attributes:
        documents: documents of which something is stored.
        tokens: their tokens.
        cut: documents that are in more than one piece.
        full: documents of exactly a row's capacity, some of which may have been truncated to it.
        trained: tokens whose labels are trained on, if there are labels.
        words: words, if there are word lengths.
        padding: places of rows without a token, float64: those of a row are shared out by the tokens of its pieces.
    """

    documents: np.ndarray[Any, Any]
    tokens: np.ndarray[Any, Any]
    cut: np.ndarray[Any, Any]
    full: np.ndarray[Any, Any]
    trained: np.ndarray[Any, Any]
    words: np.ndarray[Any, Any]
    padding: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Survey:
    """What the shards hold: ``planned`` are lengths of documents in the order of the corpus, all or a part of them."""

    sources: SourceSums
    lengths: Lengths
    planned: np.ndarray[Any, Any]


def survey(folder: ShardFolder, on_progress: OnProgress) -> Survey:
    """Reads all shards once.

    Raises:
        ShardError: a shard is not readable, or names documents or sources that the manifest does not have.
    """
    taken = _Survey(folder.manifest)
    shards = folder.manifest.shards
    for number, entry in enumerate(shards):
        taken.add(number, entry, read_shard(folder.path / entry.name, entry, folder.manifest))
        on_progress("shards read", number + 1, len(shards))
    planned = np.concatenate([np.empty(0, np.int64), *taken.planned])
    return Survey(taken.sums, taken.counter.lengths(), planned)


@dataclass
class _Survey:
    """The pass as far as it is."""

    manifest: Manifest
    counter: LengthCounter = field(default_factory=LengthCounter)
    planned: list[np.ndarray[Any, Any]] = field(default_factory=list[np.ndarray[Any, Any]])
    documents: int = 0

    def __post_init__(self) -> None:
        sources = len(self.manifest.sources)
        documents, tokens, cut, full, trained, words = np.zeros((6, sources), np.int64)
        self.sums = SourceSums(documents, tokens, cut, full, trained, words, np.zeros(sources))

    def add(self, number: int, entry: ShardEntry, shard: Shard) -> None:
        """Takes the ``number``-th shard."""
        document = shard.document_ids.values
        source = shard.source_ids.values.astype(np.int64)
        length = shard.seq_lengths.values.astype(np.int64)
        _check(entry, document, entry.documents, "document")
        _check(entry, source, len(self.manifest.sources), "source")
        sums = self.sums
        np.add.at(sums.tokens, source, length)
        np.add.at(sums.padding, source, self._padding(shard, length))
        _add_labels(sums, shard, source, length)
        # By document: all pieces of one are here.
        pieces = np.bincount(document, minlength=entry.documents)
        tokens = np.zeros(entry.documents, np.int64)
        source_of = np.zeros(entry.documents, np.int64)
        np.add.at(tokens, document, length)
        source_of[document] = source
        stored = np.flatnonzero(pieces)
        tokens, pieces, source_of = tokens[stored], pieces[stored], source_of[stored]
        np.add.at(sums.documents, source_of, 1)
        np.add.at(sums.cut, source_of, (pieces > 1).astype(np.int64))
        np.add.at(sums.full, source_of, (tokens == self.manifest.packing.capacity).astype(np.int64))
        self.counter.add(tokens)
        self.planned.append(tokens[self._chosen(number, entry.documents, len(stored))])

    def _padding(self, shard: Shard, length: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """For each piece its part of the empty places of its row."""
        capacity = self.manifest.packing.capacity
        filled = shard.input_ids.lengths
        empty = np.maximum(capacity - filled, 0) / np.maximum(filled, 1)
        return length * np.repeat(empty, shard.seq_lengths.lengths)

    def _chosen(self, number: int, documents: int, stored: int) -> np.ndarray[Any, Any]:
        """Which stored documents of a shard are planned with: a stretch of them, so that neighbours stay neighbours.

        It begins anywhere and goes round, so that each document is as likely as another; the shard's number decides where.
        """
        share = min(1.0, MOST_PLANNED / max(1, self.manifest.documents))
        before, self.documents = self.documents, self.documents + documents
        wanted = min(stored, int(self.documents * share) - int(before * share)) if share < 1 else stored
        if wanted == stored:
            return np.arange(stored)
        first = int(np.random.default_rng(number).integers(stored))
        return np.sort((first + np.arange(wanted)) % stored)


def _check(entry: ShardEntry, values: np.ndarray[Any, Any], end: int, what: str) -> None:
    if len(values) and not (0 <= int(values.min()) and int(values.max()) < end):
        raise ShardError(
            f"{entry.name} names a {what} outside 0 to {end - 1}: see 'tersely verify'; prepare it again"
        )


def _add_labels(
    sums: SourceSums, shard: Shard, source: np.ndarray[Any, Any], length: np.ndarray[Any, Any]
) -> None:
    """Adds the trained tokens and the words, where the shard has these columns."""
    ends = np.concatenate([[0], np.cumsum(length)])
    if shard.labels is not None and len(shard.labels.values):
        filled = length > 0  # reduceat takes the value at the place itself where there is nothing to sum
        trained = np.add.reduceat(shard.labels.values != IGNORED, ends[:-1][filled], dtype=np.int64)
        np.add.at(sums.trained, source[filled], trained)
    if shard.word_lengths is not None:
        word_ends = np.cumsum(shard.word_lengths.values, dtype=np.int64)
        np.add.at(sums.words, source, np.diff(np.searchsorted(word_ends, ends, "right")))
