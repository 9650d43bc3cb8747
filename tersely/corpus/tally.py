"""The pass over a corpus before training: counts its words, takes samples, and remembers what could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tersely.corpus.blocks import BlockSample
from tersely.corpus.measure import Groups
from tersely.corpus.read import Batch, Source
from tersely.tokenize.train import WordCounter

_REASONS_KEPT = 5


@dataclass
class Tally:
    """What one pass over the sources fills.

    Attributes:
        counter: counts the words, if wanted.
        groups: samples for the report, if wanted.
        phrases: a sample to learn superwords or a code from, if wanted.
        by: the field by which the report tells documents apart, if any.
        documents: how many texts there were.
        records: how many records, those included that were no documents.
        rejected: how many were none.
        reasons: places and reasons of the first of those.
        broken_off: the sources that ended before their end, each with the reason.
    """

    counter: WordCounter | None = None
    groups: Groups | None = None
    phrases: BlockSample | None = None
    by: str | None = None
    documents: int = 0
    records: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list[str])
    broken_off: list[str] = field(default_factory=list[str])

    def read(self, sources: Sequence[Source], on_progress: Callable[[int], None]) -> None:
        """Reads all sources; ``on_progress`` is given the stored bytes read so far."""
        before = 0
        for source in sources:
            read = 0
            for batch in source.batches():
                self._add(source.name, batch)
                read = batch.bytes_read
                on_progress(before + read)
            before += read

    def _add(self, name: str, batch: Batch) -> None:
        values = batch.fields.get(self.by) if self.by else None
        texts = batch.strings
        for index, text in enumerate(texts):
            if self.groups:
                self.groups.add(name, values[index] if values else "", text)
            if self.phrases:
                self.phrases.add(text)
        if self.counter:
            self.counter.add(texts)
        self.documents += len(batch.texts)
        self.records += len(batch.texts) + len(batch.rejected)
        self.rejected += len(batch.rejected)
        for record in batch.rejected[: _REASONS_KEPT - len(self.reasons)]:
            self.reasons.append(f"{name}:{record.line}: {record.reason}")
        if batch.fault:
            self.broken_off.append(f"{name}: {batch.fault}")
