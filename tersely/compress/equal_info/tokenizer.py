"""``EqualInfoTokenizer``: windows that each take the same number of bits under a model of bytes, as ids."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tersely.compress.equal_info.code.cells import FEWEST_BITS, LONGEST_WINDOW, MOST_BITS
from tersely.compress.equal_info.files import VERSION, fingerprint, read_code, write_code
from tersely.compress.equal_info.models.protocol import ByteModel
from tersely.errors import TokenizeError, UsageError
from tersely.ragged import Ragged
from tersely.tokenize.batch import in_parts, one_buffer, thread_count
from tersely.tokenize.characters import character_spans
from tersely.tokenize.protocol import Texts, check_ids, check_unit, id_dtype

MOST_CARRY = 2
"""Bytes that a window can know of the one before."""

_END_OF_TEXT = 0
_BLOCK = 1 << 16  # ids that are decoded at a time


class EqualInfoTokenizer:
    """Ids of ``bits`` bits that each stand for a string of about that much information; any bytes round trip.

    What an id stands for is fixed in a table, and no model is needed to read or write it. With ``carry`` 1 or 2 it
    also depends on the last bytes before, so that ids have to be decoded from the start of their document. Id 0 is no
    string: it ends a document, opens one and pads.

    The ids of a class of bytes before are in the order of their strings: all that begin with the same bytes are one
    range (``id_range``).

    Args:
        table: the compiled code.
        bits: of an id, 9 to 24.
        carry: the bytes before a window that its meaning may depend on, 0 to 2.
        threads: how many threads encode and decode (the ids do not depend on it); by default one for each processor.

    ``train`` builds a code, ``load`` reads one.
    """

    def __init__(self, table: Any, bits: int, carry: int, threads: int | None = None) -> None:
        self._table, self._bits, self._carry = table, bits, carry
        self._threads = thread_count(threads)
        self._dtype = id_dtype(1 << bits)

    @classmethod
    def train(
        cls,
        texts: Texts,
        *,
        bits: int = 16,
        carry: int = 0,
        model: ByteModel | None = None,
        threads: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> EqualInfoTokenizer:
        """Builds a code.

        Args:
            texts: what the model counts, if none is given, and what ``carry`` chooses its classes by.
            bits: of an id, 9 to 24.
            carry: the bytes before a window that its meaning may depend on, 0 to 2.
            model: of the next byte; by default ``NgramModel.train(texts)``.
            threads: as above.
            on_progress: called now and then with steps done and steps there can be.

        Raises:
            UsageError: ``bits`` or ``carry`` is out of bounds.
            TokenizeError: a text cannot be encoded.
        """
        from tersely.compress.equal_info.build import build_tries
        from tersely.compress.equal_info.classes import choose_classes
        from tersely.compress.equal_info.models.ngram import NgramModel
        from tersely.compress.equal_info.table import compile_tries

        check_size(bits, carry)
        documents = one_buffer(texts)
        classes = choose_classes(documents, carry)
        tries = build_tries(model or NgramModel.train(documents), bits, classes, on_progress)
        return cls(compile_tries(tries, classes), bits, carry, threads)

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> EqualInfoTokenizer:
        """The code in a folder written by ``save``.

        Raises:
            TokenizeError: a file is missing, damaged, or of another version.
        """
        table, about = read_code(Path(folder))
        tok = cls(table, about["bits"], about["carry"], threads)
        tok.__dict__["fingerprint"] = about["fingerprint"]
        return tok

    @property
    def bits(self) -> int:
        """Of an id."""
        return self._bits

    @property
    def carry(self) -> int:
        """The bytes before a window that its meaning may depend on."""
        return self._carry

    @property
    def classes(self) -> tuple[bytes, ...]:
        """The bytes before a window that are told apart; of a text's last bytes the longest that is here counts."""
        return self._table.classes

    @property
    def vocab_size(self) -> int:
        """``2**bits``."""
        return 1 << self._bits

    @property
    def bos_id(self) -> int:
        """0, the end of the document before."""
        return _END_OF_TEXT

    @property
    def eos_id(self) -> int:
        """0, the end of text."""
        return _END_OF_TEXT

    @property
    def pad_id(self) -> int:
        """0, the end of text."""
        return _END_OF_TEXT

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the table."""
        return fingerprint(self._table, self._bits, self._carry)

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """A row of ids for each text, uint16 for 16 bits; at most one id a byte, and no window over two documents.

        Raises:
            TokenizeError: a string has a lone surrogate.
        """
        return self._encode(one_buffer(texts), bos, eos)

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each the half-open range of its source, values ``(total, 2)`` int64.

        In bytes the ranges are exact and adjoin. A window can begin or end inside a character: with
        ``unit="character"`` it then has all of it.
        """
        check_unit(unit)
        documents = one_buffer(texts)
        ids = self._encode(documents, bos, eos)
        sizes = self._sizes(ids)
        ends = np.cumsum(sizes) - np.repeat(documents.offsets[:-1], ids.lengths)
        spans = Ragged(np.stack([ends - sizes, ends], axis=1), ids.offsets)
        return ids, spans if unit == "byte" else character_spans(documents, spans)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The bytes of each row, which begins a document; id 0 is left out, and what follows it begins a document too.

        Raises:
            TokenizeError: an id is outside the vocabulary.
        """
        from tersely.compress.equal_info.decode import look_up, write

        rows = self._checked(ids)
        words, long_strings = self._records

        def part(first: int, last: int) -> list[bytes]:
            aims = np.arange(rows.offsets[first] + _BLOCK, rows.offsets[last], _BLOCK)
            cuts = np.unique(np.concatenate([[first], np.searchsorted(rows.offsets, aims), [last]])).tolist()
            texts: list[bytes] = []
            found, text = np.empty((0, 2), np.uint64), np.empty(0, np.uint8)  # used again, for new memory is slow
            for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
                some = rows[start:stop]
                found = found if len(found) >= len(some.values) else np.empty((len(some.values), 2), np.uint64)
                ends = np.empty(len(some) + 1, np.int64)
                size = look_up(words, self._bits, some.values, some.offsets, found, ends)
                text = text if len(text) >= size + LONGEST_WINDOW else np.empty(size + LONGEST_WINDOW, np.uint8)
                write(found, len(some.values), long_strings, text)
                view, bounds = text.data, ends.tolist()
                texts += [bytes(view[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
            return texts

        return [text for some in in_parts(rows.offsets, self._threads, part) for text in some]

    def save(self, folder: str | Path) -> None:
        """Writes the code into ``folder``, which is made if need be."""
        about = {"version": VERSION, "bits": self._bits, "carry": self._carry, "fingerprint": self.fingerprint}
        write_code(Path(folder), self._table, {"type": "equal-info"} | about)

    def _encode(self, documents: Ragged, bos: bool, eos: bool) -> Ragged:
        from tersely.compress.equal_info.encode import encode_rows

        table, follow, last = self._table, self._follow, self._last

        def part(first: int, last_row: int) -> tuple[Any, Any]:
            rows = documents[first:last_row]
            ids, lengths = np.empty(len(rows.values) + 2 * len(rows), self._dtype), np.empty(len(rows), np.int64)
            count = encode_rows(
                table.cells, table.roots, follow, last, rows.values, rows.offsets, (bos, eos), ids, lengths
            )
            return ids[:count].copy(), lengths

        parts = in_parts(documents.offsets, self._threads, part)
        lengths = np.concatenate([lengths for _, lengths in parts])
        return Ragged(np.concatenate([ids for ids, _ in parts]), np.concatenate([[0], np.cumsum(lengths)]))

    def _checked(self, ids: Ragged) -> Ragged:
        """The rows, of the dtype that compiled code takes."""
        rows = ids.to_numpy()
        values = check_ids(rows.values, self.vocab_size)
        return Ragged(np.ascontiguousarray(values, self._dtype), rows.offsets)

    def _sizes(self, ids: Ragged) -> Any:
        """The bytes of each id."""
        from tersely.compress.equal_info.decode import look_up

        found, ends = np.empty((len(ids.values), 2), np.uint64), np.empty(len(ids) + 1, np.int64)
        look_up(self._records.words, self._bits, ids.values, ids.offsets, found, ends)
        return found[:, 0].astype(np.uint8).astype(np.int64)

    @functools.cached_property
    def _follow(self) -> Any:
        from tersely.compress.equal_info.table import following_classes

        return following_classes(self._table.classes)

    @functools.cached_property
    def _last(self) -> Any:
        from tersely.compress.equal_info.table import last_bytes

        return last_bytes(self._table.classes)

    @functools.cached_property
    def _records(self) -> Any:
        from tersely.compress.equal_info.records import expand

        return expand(self._table, self._bits)

    def __reduce__(self) -> tuple[Any, ...]:
        # The records stay behind: they are made again where they are needed.
        return EqualInfoTokenizer, (self._table, self._bits, self._carry, self._threads)

    def __repr__(self) -> str:
        return f"EqualInfoTokenizer({self._bits} bits, carry {self._carry}, {len(self._table.classes)} classes)"


def check_size(bits: int, carry: int) -> None:
    """Raises UsageError unless there can be a code of ``bits`` bits that carries ``carry`` bytes."""
    if type(bits) is not int or not FEWEST_BITS <= bits <= MOST_BITS:
        reason = "it has no room for 256 byte cells and a stop cell" if bits in range(FEWEST_BITS) else "ids are in a table"
        raise UsageError(f"no code of {bits!r} bits, for {reason}: choose {FEWEST_BITS} to {MOST_BITS}")
    if type(carry) is not int or not 0 <= carry <= MOST_CARRY:
        raise UsageError(f"no code that carries {carry!r} bytes: choose 0, 1 or 2")
