"""Counting the words of a stream in bounded memory, exactly.

    texts -> words -> table (of ``memory`` bytes)
                        | full: its strings go to 64 files on disk, by their hash, and it starts empty
                        v
    at the end, file by file: the same table adds up what belongs together

A file that is itself too large for the table is parted again, by the next bits of the hash. The counts do not depend
on the memory, on how the texts were batched, or on their order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeAlias

import numpy as np

from tersely.errors import UsageError
from tersely.ragged import Ragged
from tersely.tokenize.protocol import Texts
from tersely.tokenize.train.table import add_strings, empty_table
from tersely.tokenize.train.words import Split, split_words

Array: TypeAlias = np.ndarray[Any, Any]

_BITS = 6
_NONE = np.empty(0, np.int64)
_BATCH_BYTES = 4 << 20


@dataclass(frozen=True)
class Price:
    """Bytes of memory that training takes for each byte, and for each word it is given, about."""

    byte: int
    word: int


@dataclass(frozen=True)
class WordCounts:
    """The words of a corpus that are trained on, the most frequent first.

    Attributes:
        words: rows of uint8.
        counts: how often each occurs, int64.
        unique: how many different words the corpus has.
        occurrences: how many words it has.
        dropped: how many different words were left out, the rarest.
        dropped_occurrences: how often those occur.
    """

    words: Ragged
    counts: Array
    unique: int
    occurrences: int
    dropped: int
    dropped_occurrences: int


class WordCounter:
    """Counts words; to be used in a ``with`` block, which removes what went to disk.

    Args:
        memory: bytes that the table may take.
        split: what a word is.
        folder: where to put what does not fit in memory; by default the system's temporary folder.
    """

    def __init__(
        self, memory: int, split: Split = Split.GPT2, folder: str | Path | None = None, *, shift: int = 58
    ) -> None:
        self._memory, self._split, self._folder, self._shift = memory, split, folder, shift
        self._table = empty_table(memory)
        self._files: list[IO[bytes]] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> WordCounter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        if self._temporary:
            self._temporary.cleanup()

    @property
    def unique(self) -> int:
        """How many different words are in memory."""
        return int(self._table.size[0])

    @property
    def spilled(self) -> bool:
        """Whether the words did not fit in memory."""
        return bool(self._files)

    def add(self, texts: Texts) -> None:
        """Counts the words of documents."""
        self.add_words(split_words(texts, self._split), _NONE)

    def add_words(self, words: Ragged, amounts: Array) -> None:
        """Counts words that are split already: rows of uint8 of at most 65536 bytes, each ``amounts`` times (once
        if that is empty).
        """
        content, offsets, place = words.values, words.offsets, 0
        while True:
            self._table, place = add_strings(self._table, content, offsets, amounts, place)
            if place == len(words):
                return
            self._spill()

    def parts(self) -> Iterator[tuple[Ragged, Array, Array]]:
        """All words with counts and hashes, in parts that have no word in common; to be called once, at the end."""
        if not self._files:
            yield self._words()
            return
        self._spill()
        del self._table
        for file in self._files:
            file.seek(0)
            with WordCounter(self._memory, folder=self._folder, shift=self._shift - _BITS) as child:
                for words, counts in _blocks(file):
                    child.add_words(words, counts)
                for part, amounts, hashes in child.parts():
                    # copied, because these hold on to the child's table, which goes before the next one comes
                    yield Ragged(part.values.copy(), part.offsets.copy()), amounts.copy(), hashes.copy()
                    del part, amounts, hashes
            del child

    def finish(self, budget: int, price: Price) -> WordCounts:
        """The words to train on: the most frequent ones that cost at most ``budget`` bytes.

        Words that occur equally often are in or out together, so the choice depends on nothing but the corpus.
        """
        kept: list[tuple[Ragged, Array, Array]] = []
        cost = unique = occurrences = 0
        for part in self.parts():
            kept.append(part)
            unique += len(part[0])
            occurrences += int(part[1].sum())
            cost += price.byte * len(part[0].values) + price.word * len(part[0])
            if cost > budget + budget // 4:
                kept, cost = _most_frequent(kept, budget, price)
        kept, _ = _most_frequent(kept, budget, price)
        words, counts, _ = kept[0]
        return WordCounts(
            words, counts, unique, occurrences, unique - len(words), occurrences - int(counts.sum())
        )

    def _words(self) -> tuple[Ragged, Array, Array]:
        table, size = self._table, self.unique
        ends = table.ends[: size + 1]
        return Ragged(table.content[: ends[-1]], ends), table.counts[:size], table.hashes[:size]

    def _spill(self) -> None:
        """Writes the table to the files and empties it."""
        if self._shift < 0:
            raise UsageError(f"memory of {self._memory} bytes is too little to count these words: give more")
        if not self._files:
            self._temporary = tempfile.TemporaryDirectory(prefix=".tmp-words-", dir=self._folder)
            folder = Path(self._temporary.name)
            self._files = [(folder / f"{part:02}").open("w+b") for part in range(1 << _BITS)]
        words, counts, hashes = self._words()
        homes = ((hashes >> np.uint64(self._shift)) & np.uint64((1 << _BITS) - 1)).astype(np.int8)
        order = np.argsort(homes, kind="stable")
        bounds = np.searchsorted(homes[order], np.arange((1 << _BITS) + 1))
        for file, start, stop in zip(self._files, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            rows = order[start:stop]
            if len(rows):
                block = words.take(rows)
                header = np.array([len(rows), len(block.values)], np.int64)
                for array in (header, block.lengths.astype(np.int32), counts[rows], block.values):
                    file.write(array.tobytes())
        self._table.size[0] = 0
        self._table.slots[:] = 0


def _blocks(file: IO[bytes]) -> Iterator[tuple[Ragged, Array]]:
    while header := file.read(16):
        rows, size = np.frombuffer(header, np.int64).tolist()
        offsets = np.zeros(rows + 1, np.int64)
        np.cumsum(np.frombuffer(file.read(4 * rows), np.int32), out=offsets[1:])
        counts = np.frombuffer(file.read(8 * rows), np.int64)
        yield Ragged(np.frombuffer(file.read(size), np.uint8), offsets), counts


def _most_frequent(
    parts: list[tuple[Ragged, Array, Array]], budget: int, price: Price
) -> tuple[list[tuple[Ragged, Array, Array]], int]:
    """The words of all parts that fit the budget, as one part, by falling count and then by hash."""
    counts = np.concatenate([part[1] for part in parts])
    hashes = np.concatenate([part[2] for part in parts])
    lengths = np.concatenate([part[0].lengths for part in parts])
    order = np.lexsort((hashes, -counts))
    costs = np.cumsum(price.byte * lengths[order] + price.word)
    fit = int(np.searchsorted(costs, budget, "right"))
    if fit < len(order):
        floor = counts[order[fit]]
        fit = int(np.searchsorted(-counts[order], -floor))  # without those as rare as the first that is out
    order = order[:fit]
    words = Ragged.concat([part[0] for part in parts]).take(order)
    return [(words, counts[order].copy(), hashes[order].copy())], int(costs[fit - 1]) if fit else 0
