"""When all tasks are done: one quarantine, one manifest, and nothing left of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from tersely.corpus.job.done import Counts, Done
from tersely.corpus.job.place import Place
from tersely.corpus.job.plan import JobPlan
from tersely.corpus.job.rows import WASTE, Rows
from tersely.errors import CorpusError
from tersely.shards import (
    Manifest,
    ShardEntry,
    SourceEntry,
    finish_folder,
    write_fields,
    write_shard,
)
from tersely.shards.atomic import whole_file
from tersely.shards.writer import QUARANTINE_NAME
from tersely.tokenize import Tokenizer


def unfinished(place: Place, plan: JobPlan) -> list[int]:
    """Which tasks are not done."""
    return [n for n in range(len(plan.tasks)) if not Done.of(place, n).finished]


def finish(place: Place, plan: JobPlan, manifest: Manifest, tok: Tokenizer, names: Sequence[str]) -> Manifest:
    """Writes what makes the folder a whole one; all tasks must be done. May be repeated.

    Args:
        place: the folder.
        plan: of the job.
        manifest: what is known before the tasks are done.
        tok: the tokenizer.
        names: the fields of documents.
    """
    sources = [
        _nothing(source["name"], stamp) for source, stamp in zip(plan.sources, plan.stamps, strict=True)
    ]
    shards: list[ShardEntry] = []
    waste = dict.fromkeys(WASTE, 0)
    with (
        whole_file(place.out / QUARANTINE_NAME) as temporary,
        temporary.open("w", encoding="utf-8") as quarantine,
    ):
        lines_before = [0] * len(sources)
        for number, task in enumerate(plan.tasks):
            done = Done.of(place, number)
            if not done.finished:
                raise CorpusError(f"task {number} of {place.out} is not done: run the same command again")
            parts = [part.source for part in task]
            for line in done.lines:
                if "shard" in line:
                    shards.append(ShardEntry(**line["shard"]))
                    waste = {
                        name: waste[name] + more for name, more in zip(WASTE, line["waste"], strict=True)
                    }
            totals = _totals(done, len(parts))
            rejects = (place.rejects(number, order) for order in range(len(done.lines)))
            starts = _starts(parts, totals, lines_before)
            for reject in _rejects(rejects):
                part = reject.pop("part")
                _write(quarantine, sources[parts[part]].name, reject, starts[part])
            for part, counts in enumerate(totals):
                sources[parts[part]] = _added(sources[parts[part]], counts)
    shards = shards or [_empty_shard(place, tok, manifest, names)]
    known = {shard.name for shard in shards} | {shard.fields for shard in shards}
    for stranger in place.strangers(known):
        stranger.unlink()
    manifest = finish_folder(place.out, replace(manifest, sources=sources, shards=shards, **waste))
    place.clear()
    return manifest


def _nothing(name: str, stamp: int | None) -> SourceEntry:
    nothing = dict.fromkeys(("records_in", "documents", "empty", "quarantined", "bytes"), 0)
    return SourceEntry(name=name, modified_ns=stamp, **nothing)


def _totals(done: Done, parts: int) -> list[Counts]:
    totals = [Counts() for _ in range(parts)]
    for part, counts in done.counts:
        totals[part] += counts
    return totals


def _starts(parts: Sequence[int], totals: Sequence[Counts], lines_before: list[int]) -> list[int]:
    """The lines of its source that are before each part; ``lines_before`` goes on to the end of the task."""
    starts: list[int] = []
    for source, counts in zip(parts, totals, strict=True):
        starts.append(lines_before[source])
        lines_before[source] += counts.lines
    return starts


def _rejects(paths: Iterator[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        if path.exists():
            with path.open() as file:
                yield from map(json.loads, file)


def _write(quarantine: IO[str], source: str, reject: dict[str, Any], lines: int) -> None:
    if reject["line"]:
        reject["line"] += lines
    quarantine.write(json.dumps({"source": source, **reject}, ensure_ascii=True) + "\n")


def _added(entry: SourceEntry, counts: Counts) -> SourceEntry:
    return replace(
        entry,
        records_in=entry.records_in + counts.records,
        documents=entry.documents + counts.documents,
        empty=entry.empty + counts.empty,
        quarantined=entry.quarantined + counts.quarantined,
        bytes=entry.bytes + counts.bytes,
        repaired=entry.repaired + counts.repaired,
        untrained=entry.untrained + counts.untrained,
        complete=entry.complete and not counts.fault,
    )


def _empty_shard(place: Place, tok: Tokenizer, manifest: Manifest, names: Sequence[str]) -> ShardEntry:
    """A corpus without documents has one shard without rows, so that it opens like any other."""
    rows = Rows(manifest.packing, names, "labels" in manifest.columns)
    shard, _ = rows.shard(tok, np.dtype(manifest.dtype), 0, "word_lengths" in manifest.columns)
    fields = ""
    if names:
        write_fields(place.fields(0, 0), {name: [] for name in names})
        fields = place.fields(0, 0).name
    dtype = np.dtype(manifest.dtype)
    return write_shard(
        place.shard(0, 0), shard, dtype=dtype, vocab_size=tok.vocab_size, documents=0, fields=fields
    )
