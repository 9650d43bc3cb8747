"""DNA as non-overlapping k-mers, without loss: k letters of ``ACGT`` are one id, anything else is an id a byte.

    ids                          of                                  for k = 6
    0, 1, 2                      pad, bos, eos
    3 + b                        the byte b                          3 .. 258
    259 + n                      the n-th k-mer of ACGT              259 .. 4354      AAAAAA, AAAAAC, ... TTTTTT
    259 + 4**k + n               the n-th k-mer of acgt              4355 .. 8450     aaaaaa, aaaaac, ... tttttt

The text is cut greedily from the left: where the next k letters are all in ``ACGT``, or all in ``acgt``, they become one
id; else one byte does. So N, the other IUPAC letters, gaps and whatever else a file holds round trip. Lower case, which
marks repeats in genomes, costs no more than upper case; where the case changes, up to ``k - 1`` letters stand alone.

6-mers that do not overlap are the vocabulary of GENERator (Wu et al. 2025, arXiv 2502.07272), which has upper case only:
``upper_case`` gives that, at the loss of the marks. Its checkpoints number the letters in the order ``ATCG`` instead.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize.batch import one_buffer
from tersely.tokenize.characters import character_spans
from tersely.tokenize.protocol import (
    CONFIG_NAME,
    Texts,
    check_ids,
    check_unit,
    config_fingerprint,
    id_dtype,
)

LONGEST = 8
"""The largest k: its vocabulary has 131,331 ids."""

OTHER = 8
"""The class of a byte that is no letter of a k-mer; 0 to 3 are those of ``ACGT``, 4 to 7 those of ``acgt``."""

_FIRST_BYTE = 3
_FIRST_KMER = _FIRST_BYTE + 256
_LETTERS = b"ACGTacgt"
_PAIRS = b"AT CG RY KM BV DH SS WW NN -- .."
"""Letters and their complements, of the IUPAC code for nucleotides (Cornish-Bowden 1985), and two signs for a gap."""


class KmerTokenizer:
    """Ids of k-mers of DNA; any bytes round trip.

    Args:
        k: letters of a k-mer, 1 to 8.
        reverse_complement: encode the other strand of each document: its letters backwards, each as its complement
            (IUPAC letters too, case kept). ``decode`` gives the document itself back.
        upper_case: encode lower case as upper case. The vocabulary has no lower-case k-mers then, and ``decode`` gives
            upper case.

    Raises:
        TokenizeError: k is not an integer from 1 to 8.
    """

    def __init__(self, k: int = 6, *, reverse_complement: bool = False, upper_case: bool = False) -> None:
        if type(k) is not int or not 1 <= k <= LONGEST:
            raise TokenizeError(f"no k-mers of {k!r} letters: choose 1 to {LONGEST}")
        self.k, self.reverse_complement, self.upper_case = k, bool(reverse_complement), bool(upper_case)
        self._dtype = id_dtype(self.vocab_size)
        # What a byte is read as, then the class and the id of that.
        read = np.frombuffer(bytes(range(256)).upper(), np.uint8) if upper_case else np.arange(256)
        read = read[_complements()] if reverse_complement else read
        classes = np.full(256, OTHER, np.uint8)
        classes[list(_LETTERS)] = np.arange(8)
        self._classes, self._single = classes[read], read + np.int64(_FIRST_BYTE)
        if reverse_complement:
            self._single[_complements() == 0] = -1

    @classmethod
    def from_spec(cls, options: str) -> KmerTokenizer:
        """The tokenizer of ``6``, ``6:rc``, ``6:upper`` or ``6:rc:upper``: what follows ``kmer:`` in a name."""
        k, *flags = options.split(":")
        if not re.fullmatch("[0-9]{1,9}", k) or not set(flags) <= {"rc", "upper"}:
            raise TokenizeError(
                f"no tokenizer 'kmer:{options[:40]}': give 'kmer:6', 'kmer:6:rc' or 'kmer:6:upper'"
            )
        return cls(int(k), reverse_complement="rc" in flags, upper_case="upper" in flags)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> KmerTokenizer:
        """The tokenizer that ``save`` described."""
        flags = {name: config.get(name, False) for name in ("reverse_complement", "upper_case")}
        return cls(config.get("k", 0), **flags)

    @property
    def vocab_size(self) -> int:
        """Number of ids: 3 specials, 256 bytes, and the k-mers of upper and (but for ``upper_case``) lower case."""
        return _FIRST_KMER + (1 if self.upper_case else 2) * 4**self.k

    @property
    def pad_id(self) -> int:
        """The id for padding."""
        return 0

    @property
    def bos_id(self) -> int:
        """The id that may open a document."""
        return 1

    @property
    def eos_id(self) -> int:
        """The id that may close a document."""
        return 2

    @property
    def fingerprint(self) -> str:
        """A hash of the configuration."""
        return config_fingerprint(self._config())

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """A row of ids for each text, uint16 (uint32 for k = 8); no k-mer reaches over the end of a document.

        Args:
            texts: strings (as UTF-8), bytes, or a Ragged of uint8.
            bos: open each row with ``bos_id``.
            eos: close each row with ``eos_id``.

        Raises:
            TokenizeError: a string has a lone surrogate; or, with ``reverse_complement``, a document has a byte
                without a complement (U of RNA among them: A, its complement, would come back as T).
        """
        from tersely.tokenize import kmer_loops

        source = one_buffer(texts)
        # More than is needed, for k letters give one id; what is not written to costs no memory.
        ids = np.empty(len(source.values) + 2 * len(source), self._dtype)
        ends = np.empty(len(source) + 1, np.int64)
        wrong = kmer_loops.encode(
            source.values,
            source.offsets,
            self._classes,
            self._single,
            self.k,
            _FIRST_KMER,
            self.reverse_complement,
            self.bos_id if bos else -1,
            self.eos_id if eos else -1,
            ids,
            ends,
        )
        if wrong >= 0:
            document = int(np.searchsorted(source.offsets, wrong, side="right")) - 1
            letter, place = bytes([source.values[wrong]]), wrong - source.offsets[document]
            raise TokenizeError(
                f"document {document} has {letter!r} at byte {place}, which has no complement that leads back to it: "
                "encode the strand as it is, without reverse_complement",
                document,
            )
        return Ragged(ids[: ends[-1]].copy(), ends)

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each the half-open range of its source, values ``(total, 2)`` int64.

        With ``reverse_complement`` the ranges are those in the document as it was given: they fall along the row, and
        its bos stands at the end of the document. With ``unit="character"`` a byte of a longer character has the range
        of that character, an index into ``text.decode("utf-8", "surrogateescape")``.
        """
        check_unit(unit)
        source = one_buffer(texts)
        ids = self.encode(source, bos=bos, eos=eos)
        ends = np.cumsum(self._widths(ids.values), dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]
        spans = np.stack([starts, ends], axis=1) - np.repeat(source.offsets[:-1], ids.lengths)[:, None]
        if self.reverse_complement:
            spans = np.repeat(source.lengths, ids.lengths)[:, None] - spans[:, ::-1]
        found = Ragged(spans, ids.offsets)
        return ids, found if unit == "byte" else character_spans(source, found)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The bytes of each row, specials left out; ``bos`` and ``eos`` are not needed to tell them.

        Raises:
            TokenizeError: an id is outside the vocabulary, or, with ``reverse_complement``, stands for a byte without a
                complement, which ``encode`` does not give.
        """
        from tersely.tokenize import kmer_loops

        rows = ids.to_numpy()
        values = check_ids(rows.values, self.vocab_size)
        rows = Ragged(np.ascontiguousarray(values, self._dtype), rows.offsets)
        kmers, pieces = (np.count_nonzero(rows.values >= first) for first in (_FIRST_KMER, _FIRST_BYTE))
        text = np.empty(pieces + (self.k - 1) * kmers, np.uint8)
        ends = np.empty(len(rows) + 1, np.int64)
        letters = np.frombuffer(_LETTERS, np.uint8)
        kmer_loops.decode(rows.values, rows.offsets, self.k, _FIRST_BYTE, _FIRST_KMER, letters, text, ends)
        if self.reverse_complement:
            text = _other_strand(text, ends)
        view, bounds = text.data, ends.tolist()
        return [bytes(view[start:stop]) for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]

    def save(self, folder: str | Path) -> None:
        """Writes the configuration into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(json.dumps(self._config(), indent=2) + "\n")

    def _config(self) -> dict[str, Any]:
        flags = {"reverse_complement": self.reverse_complement, "upper_case": self.upper_case}
        return {"type": "kmer", "k": self.k} | flags

    def _widths(self, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """How many bytes each id stands for."""
        widths = (ids >= _FIRST_BYTE).astype(np.uint8)
        widths[ids >= _FIRST_KMER] = self.k
        return widths

    def __repr__(self) -> str:
        flags = ", reverse_complement=True" * self.reverse_complement + ", upper_case=True" * self.upper_case
        return f"KmerTokenizer({self.k}{flags})"


def _other_strand(text: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from tersely.tokenize import kmer_loops

    turned = np.empty(len(text), np.uint8)
    kmer_loops.reverse_complement(text, offsets, _complements(), turned)
    if len(turned) and not turned.all():
        raise TokenizeError("an id stands for a byte without a complement, which no encoded strand has")
    return turned


def _complements() -> np.ndarray[Any, Any]:
    """For each byte its complement, of the same case; 0 where there is none that leads back; its own inverse."""
    table = np.zeros(256, np.uint8)
    for one, other in (pair for pairs in (_PAIRS, _PAIRS.lower()) for pair in pairs.split()):
        table[one], table[other] = other, one
    return table
