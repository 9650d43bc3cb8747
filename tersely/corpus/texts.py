"""The texts in files by the name of each file: for what learns from texts rather than from shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tersely.corpus.read import Source
from tersely.corpus.sources import find_sources


def read_texts(paths: Sequence[str | Path]) -> dict[str, Iterator[str]]:
    """The documents of files and folders, read as they are asked for, once.

    Args:
        paths: as for ``find_sources``. Files of one name up to its first point are taken together: ``fr.txt`` and
            ``more/fr.jsonl.zst`` are both ``fr``.

    Raises:
        CorpusError: a path does not exist, or a folder holds nothing to read.
    """
    return texts_by_name(find_sources(paths)[0])


def texts_by_name(
    sources: Sequence[Source], on_fault: Callable[[Source, int, str], None] | None = None
) -> dict[str, Iterator[str]]:
    """The same of sources; ``on_fault`` is told records that are no documents, and where a source broke off, if it did."""
    named: dict[str, list[Source]] = {}
    for source in sources:
        named.setdefault(Path(source.name).name.split(".")[0], []).append(source)
    return {name: _texts(those, on_fault) for name, those in named.items()}


def _texts(sources: list[Source], on_fault: Callable[[Source, int, str], None] | None) -> Iterator[str]:
    for source in sources:
        rejected, fault = 0, ""
        for batch in source.batches():
            rejected += len(batch.rejected)
            fault = fault or str(batch.fault or "")
            yield from batch.strings
        if on_fault and (rejected or fault):
            on_fault(source, rejected, fault)
