"""Which documents tokenizers are compared on: a bounded, reproducible sample that holds every input and group.

    input          documents of a stratum (one input, one group)      sample of 400 kB
    a.jsonl  en    900 kB                                              150 kB
    a.jsonl  fr     50 kB                                               50 kB   all of it
    b.jsonl  en    200 kB                                              150 kB
    c.txt           50 kB                                               50 kB   all of it

Small strata are taken whole and large ones cut to the same level, by numbers drawn for each document as it is read. The
strata keep their true sizes, so that figures of the whole input can be made from the sample.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tersely.corpus.measure import OTHERS
from tersely.corpus.read import Batch, Source
from tersely.errors import CorpusError, UsageError

READ_FACTOR = 64
"""Stored bytes that are read at most, as a multiple of the sample's bytes; inputs share them as strata share the sample.
An input of unknown size, such as standard input, may have as many for itself."""

MOST_GROUPS = 256
"""Values of the field that are told apart, the first ones met; each stratum has a document in the sample, so that many
values would make it large."""


class Stratum(NamedTuple):
    """The documents of one input that have one value of the field: how many the whole input has, and their bytes.

    Where an input was read in part, both are extrapolated by stored bytes.
    """

    file: str
    group: str
    documents: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The documents that are measured, ``D`` of them, and what they stand for.

    Attributes:
        texts: the documents, none of them empty, in the order of the input.
        bytes: UTF-8 bytes of each, int64, shape ``(D,)``.
        characters: characters (Unicode code points) of each, int64, shape ``(D,)``.
        words: stretches of each between white space, int64, shape ``(D,)``.
        stratum: for each the number of its stratum, int64, shape ``(D,)``.
        strata: what the documents stand for.
        whole: whether they are all documents of the input.
        partly_read: the inputs that were not read to their end, with the share that was.
        rejected: records that are no documents.
        empty: documents without text; they are not among ``texts``.
        cut: documents longer than the whole sample, of which only the beginning is in ``texts``.
        broken_off: inputs that ended before their end, each with the reason.
        others: documents of the input whose group is ``OTHERS``, as ``MOST_GROUPS`` other values were met before theirs.
    """

    texts: list[str]
    bytes: np.ndarray[Any, Any]
    characters: np.ndarray[Any, Any]
    words: np.ndarray[Any, Any]
    stratum: np.ndarray[Any, Any]
    strata: list[Stratum]
    whole: bool
    partly_read: dict[str, float]
    rejected: int
    empty: int
    cut: int
    broken_off: list[str]
    others: int

    @property
    def total_bytes(self) -> float:
        """UTF-8 bytes of all documents of the input."""
        return sum(stratum.bytes for stratum in self.strata)

    @property
    def total_documents(self) -> float:
        """Documents of the input, empty ones not counted."""
        return sum(stratum.documents for stratum in self.strata)


class _Drawn(NamedTuple):
    """A document in the sample; the larger ``lot``, the earlier it gives way."""

    lot: float
    order: int
    text: str
    bytes: int


@dataclass
class _Drawing:
    """A stratum while its input is read."""

    kept: list[_Drawn] = field(default_factory=list["_Drawn"])
    documents: int = 0
    bytes: int = 0

    def size(self) -> int:
        return sum(document.bytes for document in self.kept)

    def cut_to(self, level: float) -> None:
        """Lets documents go until the others fit ``level``; the one with the smallest lot stays."""
        self.kept.sort()
        size = self.size()
        while size > level and len(self.kept) > 1:
            size -= self.kept.pop().bytes


@dataclass
class _Counts:
    rejected: int = 0
    empty: int = 0
    cut: int = 0
    broken_off: list[str] = field(default_factory=list[str])
    others: int = 0
    order: int = 0
    held: int = 0


def sample_documents(
    sources: Sequence[Source],
    sample_bytes: int,
    by: str | None = None,
    on_read: Callable[[int, int], None] | None = None,
) -> Documents:
    """Draws documents of about ``sample_bytes`` bytes of text in all, at least one of each stratum.

    Costs one reading of the inputs, but of at most ``READ_FACTOR * sample_bytes`` stored bytes (and a batch of each
    input, and as many bytes of each input of unknown size), and memory for twice the sample.

    Args:
        sources: the inputs; with ``by``, made with that field (``find_sources(..., fields=[by])``).
        sample_bytes: bytes of text, at least 1.
        by: a field of the documents, whose values are the groups.
        on_read: is told how many stored bytes were read, and of how many.

    Raises:
        UsageError: ``sample_bytes`` is below 1, or no document has the field.
        CorpusError: the inputs hold no documents.
    """
    if sample_bytes < 1:
        raise UsageError(f"sample_bytes is {sample_bytes}: allow at least 1 byte")
    sizes = [source.size for source in sources]
    level = level_of([size for size in sizes if size], READ_FACTOR * sample_bytes)
    strata: dict[tuple[str, str], _Drawing] = {}
    shares: dict[str, float] = {}
    counts, lots, read = _Counts(), random.Random(0), 0
    for source in sources:
        stored, limit = 0, level if source.size else READ_FACTOR * sample_bytes
        shares[source.name] = 1.0
        batches = source.batches()
        for batch in batches:
            _take(batch, source.name, by, sample_bytes, strata, counts, lots)
            stored = batch.bytes_read
            if counts.held > 2 * sample_bytes:
                counts.held = _cut_all(strata, sample_bytes)
            if on_read:
                on_read(read + stored, sum(sizes))
            if stored >= limit and _goes_on(source.size, stored, batches):
                shares[source.name] = stored / source.size if source.size else 0.0
                break
        read += stored
    _cut_all(strata, sample_bytes)
    if not strata:
        raise CorpusError("the inputs hold no documents with text: check --text-field and --input-format")
    if by is not None and not any(group for _, group in strata):
        raise UsageError(f"no document has the field {by!r}: name one that the records have")
    return _gathered(strata, shares, counts)


def _goes_on(size: int, stored: int, batches: Iterator[Batch]) -> bool:
    """Whether an input has more than the bytes read; where its size is not known, only its next batches tell."""
    return stored < size if size else any(batch.texts or batch.rejected for batch in batches)


def level_of(sizes: Sequence[float], total: float) -> float:
    """The level to which sizes are cut so that they fit ``total`` together; the largest size if they fit as they are."""
    left = total
    for number, size in enumerate(sorted(sizes)):
        if size * (len(sizes) - number) > left:
            return left / (len(sizes) - number)
        left -= size
    return max(sizes, default=total) or total


def _take(
    batch: Batch,
    name: str,
    by: str | None,
    longest: int,
    strata: dict[tuple[str, str], _Drawing],
    counts: _Counts,
    lots: random.Random,
) -> None:
    """Puts the documents of a batch into their strata."""
    counts.rejected += len(batch.rejected)
    if batch.fault:
        counts.broken_off.append(f"{name}: {batch.fault}")
    groups = batch.fields.get(by, []) if by else []
    known = {group for _, group in strata} - {OTHERS}
    for text, group in zip(batch.strings, groups or [""] * len(batch.texts), strict=True):
        if not text:
            counts.empty += 1
            continue
        if group not in known and len(known) >= MOST_GROUPS:
            group = OTHERS
            counts.others += 1
        else:
            known.add(group)
        stratum = strata.setdefault((name, group), _Drawing())
        size = _utf8_bytes(text)
        stratum.documents += 1
        stratum.bytes += size
        if size > longest:
            text = text.encode()[:longest].decode("utf-8", "ignore") or text[:1]
            size = _utf8_bytes(text)
            counts.cut += 1
        stratum.kept.append(_Drawn(lots.random(), counts.order, text, size))
        counts.order += 1
        counts.held += size


def _cut_all(strata: dict[tuple[str, str], _Drawing], sample_bytes: int) -> int:
    """Cuts the strata to the sample's size; the bytes they then hold."""
    level = level_of([stratum.size() for stratum in strata.values()], sample_bytes)
    for stratum in strata.values():
        stratum.cut_to(level)
    return sum(stratum.size() for stratum in strata.values())


def _gathered(
    strata: dict[tuple[str, str], _Drawing], shares: dict[str, float], counts: _Counts
) -> Documents:
    chosen = sorted(
        (document.order, document, number)
        for number, stratum in enumerate(strata.values())
        for document in stratum.kept
    )
    texts = [document.text for _, document, _ in chosen]
    partly_read = {name: share for name, share in shares.items() if share < 1}
    return Documents(
        texts=texts,
        bytes=np.array([document.bytes for _, document, _ in chosen], np.int64),
        characters=np.array([len(text) for text in texts], np.int64),
        words=np.array([len(text.split()) for text in texts], np.int64),
        stratum=np.array([number for *_, number in chosen], np.int64),
        strata=list(_with_true_sizes(strata, shares)),
        whole=len(texts) == sum(stratum.documents for stratum in strata.values())
        and not partly_read
        and not counts.cut,
        partly_read=partly_read,
        rejected=counts.rejected,
        empty=counts.empty,
        cut=counts.cut,
        broken_off=counts.broken_off,
        others=counts.others,
    )


def _with_true_sizes(strata: dict[tuple[str, str], _Drawing], shares: dict[str, float]) -> Iterator[Stratum]:
    """An input of unknown size that was not read to its end counts as what was read of it."""
    for (file, group), stratum in strata.items():
        scale = 1 / (shares[file] or 1.0)
        yield Stratum(file, group, stratum.documents * scale, stratum.bytes * scale)


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
