"""``inspect_folder``: all figures of a prepared folder, which the command prints and the page shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tersely.corpus.inspection.choices import Choice, choices
from tersely.corpus.inspection.lengths import PERCENTILES, Lengths
from tersely.corpus.inspection.quarantine import Quarantine, read_quarantine
from tersely.corpus.inspection.sources import SourceFigures, source_figures
from tersely.corpus.inspection.survey import OnProgress, SourceSums, survey
from tersely.shards import Manifest, ShardFolder

MOST_SOURCES = 50
"""Sources that are shown one by one, those with the most tokens; the others are shown together."""


@dataclass(frozen=True)
class Inspection:
    """A prepared folder and its figures.

    Attributes:
        folder: where it is.
        manifest: what it says of itself.
        fields: names of what sources gave beside their documents.
        lengths: how often documents have how many tokens, as stored.
        all_sources: the figures of all sources together.
        sources: of each source, in the order of the manifest.
        largest: of the 50 sources with the most tokens, in this order.
        rest: of the others together, if there are any.
        choices: what capacities and strategies would make of the documents.
        planned: how many documents ``choices`` was planned with; they stand for all.
        quarantine: the records that are no documents.
    """

    folder: Path
    manifest: Manifest
    fields: list[str]
    lengths: Lengths
    all_sources: SourceFigures
    sources: list[SourceFigures]
    largest: list[SourceFigures]
    rest: SourceFigures | None
    choices: list[Choice]
    planned: int
    quarantine: Quarantine

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of all text for each token it became, also of those truncated and dropped since, without what opens and
        closes documents; None if there are none.
        """
        made, added = self.manifest, self.manifest.tokenizer.bos + self.manifest.tokenizer.eos
        tokens = made.tokens + made.truncated_tokens + made.dropped_tokens - added * made.documents
        return made.bytes / tokens if tokens > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """The figures, JSON-able. Shares are 0 to 1; what a key of a nested object means stands in its dataclass.

        ``bytes_per_token``: see there. ``document_tokens``: ``mean``, percentiles ``p1`` to ``p99.9`` and ``max`` of the tokens of
        documents as stored; ``median_token``, the length so that half of all tokens are in documents that are not longer;
        ``histogram``, a list of ``[from, to (exclusive), documents, tokens]``. ``all_sources`` and ``by_source``: ``SourceFigures``.
        ``packing_choices``: ``documents`` planned with, and ``choices``, a list of ``Choice``. ``quarantine``: ``records``,
        ``reasons`` (a list of ``Kind``) and ``others``.
        """
        return self._to_dict([asdict(source) for source in self.sources])

    def _to_dict(self, sources: list[dict[str, Any]]) -> dict[str, Any]:
        found = self.quarantine
        return {
            "bytes_per_token": self.bytes_per_token,
            "document_tokens": document_tokens(self.lengths),
            "all_sources": asdict(self.all_sources),
            "by_source": sources,
            "packing_choices": {
                "documents": self.planned,
                "choices": [asdict(choice) for choice in self.choices],
            },
            "quarantine": {
                "records": found.records,
                "reasons": [asdict(kind) for kind in found.kinds],
                "others": found.others,
            },
        }

    def to_page_dict(self) -> dict[str, Any]:
        """What the page has: ``to_dict`` of the sources shown on it, and the manifest without its lists of files."""
        left_out = ("sources", "shards", "files", "checksum")
        head = {name: value for name, value in self.manifest.to_dict().items() if name not in left_out}
        shown = self.largest + ([self.rest] if self.rest else [])
        head |= {"folder": str(self.folder), "fields": self.fields}
        return head | self._to_dict([asdict(source) for source in shown])


def inspect_folder(
    folder: str | Path, on_progress: OnProgress = lambda what, done, total: None
) -> Inspection:
    """Reads a prepared folder once, a shard at a time, and plans its documents anew in other ways.

    Args:
        folder: what ``prepare`` made.
        on_progress: called now and then with what is done, how much of it, and of how much.

    Raises:
        ShardError: the folder is unfinished or damaged.
    """
    opened = ShardFolder(folder)
    manifest = opened.manifest
    found = survey(opened, on_progress)
    numbers = range(len(manifest.sources))
    order = by_tokens(found.sources)
    largest, rest = order[:MOST_SOURCES], order[MOST_SOURCES:]

    def of(chosen: list[int], name: str) -> SourceFigures:
        return source_figures(manifest, found.sources, chosen, name)

    each = [of([number], manifest.sources[number].name) for number in numbers]
    return Inspection(
        folder=Path(folder),
        manifest=manifest,
        fields=_fields(opened),
        lengths=found.lengths,
        all_sources=of(list(numbers), "all"),
        sources=each,
        largest=[each[number] for number in largest],
        rest=of(rest, f"{len(rest):,} others together") if rest else None,
        choices=choices(
            found.planned,
            found.lengths.tokens,
            manifest.packing,
            lambda done, total: on_progress("ways of packing", done, total),
        ),
        planned=len(found.planned),
        quarantine=read_quarantine(
            opened.path,
            manifest.quarantined,
            lambda done, total: on_progress("records in quarantine", done, total),
        ),
    )


def by_tokens(sums: SourceSums) -> list[int]:
    """Numbers of the sources, that with the most tokens first."""
    return np.argsort(-sums.tokens, kind="stable").tolist()


def document_tokens(lengths: Lengths) -> dict[str, Any]:
    """Mean, percentiles and histogram of the tokens of documents; without documents, only an empty histogram."""
    histogram = [list(step) for step in lengths.histogram()]
    if not lengths.documents:
        return {"histogram": histogram}
    marks = {f"p{percent:g}": lengths.percentile(percent) for percent in PERCENTILES}
    mean = {"mean": lengths.tokens / lengths.documents}
    more = {"max": lengths.longest, "median_token": lengths.token_percentile(50)}
    return mean | marks | more | {"histogram": histogram}


def _fields(folder: ShardFolder) -> list[str]:
    """The names of the fields, from the first shard that has some: ``verify`` says whether the others have the same."""
    from tersely.shards.fields import read_shard_fields

    entry = next((entry for entry in folder.manifest.shards if entry.fields), None)
    return read_shard_fields(folder.path, entry).column_names if entry else []
