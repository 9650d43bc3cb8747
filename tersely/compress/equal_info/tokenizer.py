"""``EqualInfoTokenizer``: windows that each take the same number of bits under a model of bytes, as ids."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tersely.compress.equal_info.build import build_tries
from tersely.compress.equal_info.classes import choose_classes
from tersely.compress.equal_info.code.cells import FEWEST_BITS, MOST_BITS
from tersely.compress.equal_info.decode import decode_rows, decode_sizes
from tersely.compress.equal_info.encode import encode_rows
from tersely.compress.equal_info.files import VERSION, fingerprint, read_code, write_code
from tersely.compress.equal_info.models import ByteModel, NgramModel
from tersely.compress.equal_info.records import Records, expand, string_of
from tersely.compress.equal_info.table import NO_BYTE, Table, compile_tries, following_classes
from tersely.errors import TokenizeError, UsageError
from tersely.ragged import Ragged
from tersely.tokenize.batch import in_parts, one_buffer, thread_count
from tersely.tokenize.characters import character_spans
from tersely.tokenize.protocol import Texts, check_ids, check_unit, id_dtype

MOST_CARRY = 2
"""Bytes that a window can know of the one before."""

_END_OF_TEXT = 0


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

    def __init__(self, table: Table, bits: int, carry: int, threads: int | None = None) -> None:
        self._table, self._bits, self._carry = table, bits, carry
        self._threads = thread_count(threads)
        self._dtype = id_dtype(1 << bits)
        self._fingerprint: str | None = None

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
        check_size(bits, carry)
        documents = one_buffer(texts)
        classes = choose_classes(documents, carry)
        model = model or NgramModel.train(documents)
        tries = build_tries(model, bits, classes, threads=thread_count(threads), on_progress=on_progress)
        return cls(compile_tries(tries, classes), bits, carry, threads)

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> EqualInfoTokenizer:
        """The code in a folder written by ``save``.

        Raises:
            TokenizeError: a file is missing, damaged, or of another version.
        """
        table, about = read_code(Path(folder))
        tok = cls(table, about["bits"], about["carry"], threads)
        tok._fingerprint = about["fingerprint"]
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

    @property
    def fingerprint(self) -> str:
        """A hash of the table."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self._table, self._bits, self._carry)
        return self._fingerprint

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
        sizes = decode_sizes(self._records, self._bits, self._checked(ids))
        ends = np.cumsum(sizes) - np.repeat(documents.offsets[:-1], ids.lengths)
        spans = Ragged(np.stack([ends - sizes, ends], axis=1), ids.offsets)
        return ids, spans if unit == "byte" else character_spans(documents, spans)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The bytes of each row, which begins a document; id 0 is left out, and what follows it begins a document too.

        Raises:
            TokenizeError: an id is outside the vocabulary.
        """
        rows = self._checked(ids)
        rows = self._checked(ids)

        def part(first: int, last: int) -> list[bytes]:
            return decode_rows(self._records, self._bits, rows[first:last])

        return [text for some in in_parts(rows.offsets, self._threads, part) for text in some]

    def decode_from(self, before: bytes, ids: Any) -> tuple[bytes, bytes]:
        """The bytes of ids in the middle of a document, for text that is read while it is written.

        Args:
            before: the text of the document so far, of which the last ``carry`` bytes count.
            ids: the next ones, one dimension.

        Returns:
            Their text; and what to give as ``before`` with the ids after them.

        Raises:
            TokenizeError: an id is outside the vocabulary.
        """
        texts: list[bytes] = []
        for number in check_ids(np.asarray(ids), self.vocab_size).tolist():
            text = string_of(self._records, (self._class_behind(before) << self._bits) + number)
            before = (before + text)[-MOST_CARRY:] if number != _END_OF_TEXT else b""
            texts.append(text)
        return b"".join(texts), before

    def id_range(self, prefix: bytes, before: bytes = b"") -> range:
        """The ids whose windows begin with ``prefix``: one range, for ids are in the order of their strings.

        A prompt that ends within a window is not cut as the text it begins would be. Leave its last window out, and let
        the model choose the next id from this range of it: that heals the edge.

        Args:
            prefix: the first bytes of the window; with none it is all ids, 0 left out.
            before: the text before the window, whose last ``carry`` bytes count.

        Returns:
            An empty range if no window begins so.
        """
        return range(*self._bounds([prefix], self._class_behind(before))[0])

    def next_bytes(self, probabilities: Any, prefix: bytes = b"", before: bytes = b"") -> Any:
        """The probabilities of the next byte, from those of the next id, by one cumulative sum.

        Args:
            probabilities: of all ids, shape ``(2**bits,)``.
            prefix: bytes of the window that are given already.
            before: the text before the window.

        Returns:
            Shape ``(257,)``, float64: of each byte to be the next of the window, and last that the window ends after
            ``prefix``; they add up to that of ``id_range(prefix)``. Where it ends, the first byte of the next window
            comes next: one more step of the model says which.
        """
        sums = np.concatenate([[0.0], np.cumsum(np.asarray(probabilities, np.float64))])
        if sums.shape != (self.vocab_size + 1,):
            raise TokenizeError(
                f"there are {self.vocab_size} ids: give a probability for each, in one dimension"
            )
        kind = self._class_behind(before)
        bounds = self._bounds([prefix, *(prefix + bytes([byte]) for byte in range(256))], kind)
        masses = sums[bounds[:, 1]] - sums[bounds[:, 0]]
        return np.append(masses[1:], masses[0] - masses[1:].sum())

    def save(self, folder: str | Path) -> None:
        """Writes the code into ``folder``, which is made if need be."""
        about = {
            "version": VERSION,
            "bits": self._bits,
            "carry": self._carry,
            "fingerprint": self.fingerprint,
        }
        write_code(Path(folder), self._table, {"type": "equal-info"} | about)

    def _encode(self, documents: Ragged, bos: bool, eos: bool) -> Ragged:
        table, follow = self._table, self._follow

        def part(first: int, last: int) -> tuple[Any, Any]:
            rows = documents[first:last]
            ids, lengths = (
                np.empty(len(rows.values) + 2 * len(rows), np.uint32),
                np.empty(len(rows), np.int64),
            )
            count = encode_rows(
                table.cells, table.roots, follow, rows.values, rows.offsets, (bos, eos), ids, lengths
            )
            return ids[:count].astype(self._dtype), lengths

        parts = in_parts(documents.offsets, self._threads, part)
        lengths = np.concatenate([lengths for _, lengths in parts])
        return Ragged(np.concatenate([ids for ids, _ in parts]), np.concatenate([[0], np.cumsum(lengths)]))

    def _checked(self, ids: Ragged) -> Ragged:
        """The rows, of the dtype that compiled code takes."""
        rows = ids.to_numpy()
        values = check_ids(rows.values, self.vocab_size)
        return Ragged(np.ascontiguousarray(values, np.uint32), rows.offsets)

    def _class_behind(self, before: bytes) -> int:
        """The class of a window after this text."""
        if not before:
            return 0
        return int(self._follow[before[-2] if len(before) > 1 else NO_BYTE, before[-1]])

    def _bounds(self, prefixes: Sequence[bytes], kind: int) -> Any:
        """The first id whose string begins with each prefix, and the one after the last; shape ``(P, 2)``, int64."""
        strings = _Strings(self._records, kind << self._bits, self.vocab_size)
        lows = [bisect.bisect_left(strings, prefix, lo=1) for prefix in prefixes]
        highs = [
            bisect.bisect_left(strings, prefix, lo=1) if prefix else self.vocab_size
            for prefix in map(_after, prefixes)
        ]
        return np.stack([np.array(lows), np.array(highs)], axis=1)

    @functools.cached_property
    def _follow(self) -> Any:
        return following_classes(self._table.classes)

    @functools.cached_property
    def _records(self) -> Records:
        return expand(self._table, self._bits)

    def __reduce__(self) -> tuple[Any, ...]:
        # The records stay behind: they are made again where they are needed.
        return EqualInfoTokenizer, (self._table, self._bits, self._carry, self._threads)

    def __repr__(self) -> str:
        return (
            f"EqualInfoTokenizer({self._bits} bits, carry {self._carry}, {len(self._table.classes)} classes)"
        )


def check_size(bits: int, carry: int) -> None:
    """Raises UsageError unless there can be a code of ``bits`` bits that carries ``carry`` bytes."""
    if type(bits) is not int or not FEWEST_BITS <= bits <= MOST_BITS:
        reason = (
            "it has no room for 256 byte cells and a stop cell"
            if bits in range(FEWEST_BITS)
            else "ids are in a table"
        )
        raise UsageError(f"no code of {bits!r} bits, for {reason}: choose {FEWEST_BITS} to {MOST_BITS}")
    if type(carry) is not int or not 0 <= carry <= MOST_CARRY:
        raise UsageError(f"no code that carries {carry!r} bytes: choose 0, 1 or 2")


class _Strings(Sequence[bytes]):
    """The strings of a class by id, which is their order; read one at a time."""

    def __init__(self, records: Records, first: int, count: int) -> None:
        self._records, self._first, self._count = records, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: Any) -> Any:
        return string_of(self._records, self._first + number)


def _after(prefix: bytes) -> bytes:
    """The first string behind all that begin with ``prefix``; empty if there is none."""
    shorter = prefix.rstrip(b"\xff")
    return shorter[:-1] + bytes([shorter[-1] + 1]) if shorter else b""
