"""Collects documents until there are enough for a shard, then packs them into its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tersely.corpus.encode import Encoded
from tersely.corpus.marked import labels_of
from tersely.pack import Strategy, plan
from tersely.ragged import Ragged
from tersely.shards import Packing, Shard
from tersely.tokenize import Tokenizer, WordTokenizer

_KEEPS_ORDER = {Strategy.NEXT_FIT, Strategy.CONCAT}
WASTE = ("truncated_tokens", "dropped_documents", "dropped_tokens", "split_documents")


@dataclass
class Rows:
    """Documents that wait to be a shard.

    Args:
        packing: how they are packed.
        names: the fields that stand beside them.
        labels: whether they have labels; of a document that says nothing else, all is trained on.
    """

    packing: Packing
    names: Sequence[str]
    labels: bool = False
    tokens: int = 0
    fields: dict[str, list[str]] = field(init=False)
    _ids: list[Ragged] = field(default_factory=list[Ragged])
    _trained: list[Ragged] = field(default_factory=list[Ragged])
    _sources: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def __post_init__(self) -> None:
        self.fields = {name: [] for name in self.names}

    @property
    def documents(self) -> int:
        """Documents that wait."""
        return sum(count for _, count in self._sources)

    def add(self, encoded: Encoded, source: int, fields: Mapping[str, Sequence[str]]) -> None:
        """Takes the documents of a batch of the ``source``-th source, whose texts have these ``fields``."""
        self._ids.append(encoded.ids)
        if self.labels:
            every = Ragged(np.ones(len(encoded.ids.values), np.bool_), encoded.ids.offsets)
            self._trained.append(encoded.trained or every)
        self._sources.append((source, len(encoded.ids)))
        self.tokens += len(encoded.ids.values)
        for name, column in self.fields.items():
            values = fields.get(name)
            column += [values[i] for i in encoded.kept] if values else [""] * len(encoded.kept)

    def shard(self, tok: Tokenizer, dtype: np.dtype[Any], seed: int, words: bool) -> tuple[Shard, list[int]]:
        """The rows of a shard, and the ``WASTE`` of packing them; ``seed`` decides their order."""
        ids = Ragged.concat([*self._ids, Ragged(np.empty(0, dtype), [0])])
        sources = np.repeat(*np.array(self._sources, np.int64).reshape(-1, 2).T).astype(np.int32)
        if not self.packing.capacity:
            shard = _unpacked(ids, sources)
            order, waste = None, dict.fromkeys(WASTE, 0)
        else:
            packing = self.packing
            order = plan(ids.lengths, packing.capacity, packing.strategy, packing.overflow, packing.seed)
            waste = {name: getattr(order.waste, name) for name in WASTE}
            if order.strategy not in _KEEPS_ORDER:
                order = order.shuffled(seed)
            offsets = order.bins.offsets
            shard = Shard(
                input_ids=order.gather(ids),
                seq_lengths=order.seq_lengths,
                document_ids=order.documents,
                document_starts=Ragged(order.pieces.start[order.bins.values], offsets),
                source_ids=Ragged(sources[order.documents.values], offsets),
            )
        columns = dict(shard.columns)
        if self.labels:
            trained = Ragged.concat([*self._trained, Ragged(np.empty(0, np.bool_), [0])])
            columns["labels"] = labels_of(shard.input_ids, order.gather(trained) if order else trained)
        if words and isinstance(tok, WordTokenizer):
            columns["word_lengths"] = _word_lengths(shard, tok)
        return Shard(**columns), list(waste.values())


def _unpacked(ids: Ragged, sources: np.ndarray[Any, Any]) -> Shard:
    each = np.arange(len(ids) + 1)
    return Shard(
        input_ids=ids,
        seq_lengths=Ragged(ids.lengths.astype(np.int32), each),
        document_ids=Ragged(each[:-1], each),
        document_starts=Ragged(0 * each[:-1], each),
        source_ids=Ragged(sources, each),
    )


def _word_lengths(shard: Shard, tok: WordTokenizer) -> Ragged:
    """The words of each piece, in ids: those of a row sum to its length."""
    ends = np.concatenate([[0], np.cumsum(shard.seq_lengths.values, dtype=np.int64)])
    words = tok.words(Ragged(shard.input_ids.values, ends))
    lengths = np.diff(words.values.offsets).astype(np.int32)
    return Ragged(lengths, words.offsets[shard.seq_lengths.offsets])
