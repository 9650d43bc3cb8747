"""What each source gave, of records and of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tersely.corpus.inspection.survey import SourceSums
from tersely.pack import Overflow
from tersely.shards import Manifest


@dataclass(frozen=True, kw_only=True)
class SourceFigures:
    """One source, or several together.

    Attributes:
        name: what people call it.
        records: records read, those in quarantine and empty ones included.
        documents: records that became documents.
        bytes: UTF-8 bytes of its documents.
        tokens: tokens that are stored, with what opens and closes documents.
        bytes_per_token: of the text, without what opens and closes documents; None where there are no tokens, or some may be
            missing because documents were truncated or dropped.
        padding: empty places in its rows, as a share of these and its tokens, 0 to 1: those of a row are shared out by tokens.
        cut: documents in more than one piece.
        dropped: documents of which nothing is stored, because they are longer than a row.
        quarantined: records in quarantine.
        empty: records without text.
        repaired: documents in which lone surrogates or invalid UTF-8 were replaced.
        untrained: documents of which nothing is trained on.
        trained: share of its tokens that are trained on, 0 to 1; None where the folder has no labels.
        words: its words; None where the folder has no word lengths.
        broken_off: how many of the sources ended before their end.
    """

    name: str
    records: int
    documents: int
    bytes: int
    tokens: int
    bytes_per_token: float | None
    padding: float
    cut: int
    dropped: int
    quarantined: int
    empty: int
    repaired: int
    untrained: int
    trained: float | None
    words: int | None
    broken_off: int


def source_figures(manifest: Manifest, sums: SourceSums, numbers: Sequence[int], name: str) -> SourceFigures:
    """The figures of the sources of these numbers together."""
    entries = [manifest.sources[number] for number in numbers]
    chosen = list(numbers)
    documents = sum(entry.documents for entry in entries)
    stored = int(sums.documents[chosen].sum())
    tokens = int(sums.tokens[chosen].sum())
    padding = float(sums.padding[chosen].sum())
    size = sum(entry.bytes for entry in entries)
    truncated = manifest.packing.overflow == Overflow.TRUNCATE and manifest.packing.capacity > 0
    lossless = stored == documents and not (truncated and sums.full[chosen].any())
    text_tokens = tokens - stored * (manifest.tokenizer.bos + manifest.tokenizer.eos)
    return SourceFigures(
        name=name,
        records=sum(entry.records_in for entry in entries),
        documents=documents,
        bytes=size,
        tokens=tokens,
        bytes_per_token=size / text_tokens if text_tokens > 0 and lossless else None,
        padding=padding / (padding + tokens) if tokens else 0.0,
        cut=int(sums.cut[chosen].sum()),
        dropped=documents - stored,
        quarantined=sum(entry.quarantined for entry in entries),
        empty=sum(entry.empty for entry in entries),
        repaired=sum(entry.repaired for entry in entries),
        untrained=sum(entry.untrained for entry in entries),
        trained=int(sums.trained[chosen].sum()) / max(tokens, 1) if "labels" in manifest.columns else None,
        words=int(sums.words[chosen].sum()) if "word_lengths" in manifest.columns else None,
        broken_off=sum(not entry.complete for entry in entries),
    )
