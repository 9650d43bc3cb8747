"""What becomes of each code point in BERT's normaliser and word splitter, as the ``tokenizers`` library has it.

Both look at one character at a time, so the library is asked once for each and the answers are kept as bytes, in
which 0xFF (never a byte of UTF-8) stands for the end of a word:

    with lowercase:   "A" -> "a"     "\u00c9" -> "e"     "." -> FF "." FF     " " -> FF     NUL -> nothing

A question takes about five microseconds, so blocks of 256 code points are asked for when a text first has them: a
corpus in one script needs a few milliseconds.

One thing does look further: accents are stripped from decomposed text, in which combining marks are put in order. It
shows only where two such marks in a row survive the stripping (Hangul tone marks, for instance); these are marked, and
a document in which two meet is left to the library.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import numpy as np
from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

BREAK = 0xFF
"""The byte that ends a word."""
MARK = 0x100
"""The bit of an entry whose character may change places with another such one."""
ALONE = 0x200
"""The bit of an entry that only the library can apply (no known character has it)."""
PLACE = 16
"""How far an entry is shifted right to give the place of its bytes in the pool."""
GROWTH = 3
"""How many bytes a byte of text becomes at most."""
BLOCK = 256
"""How many code points are asked for at a time."""

_SURROGATES = range(0xD800, 0xE000)
_LAST_MARK = "\u0345"  # has the highest combining class, so that any other mark goes before it
_FIRST_MARK = "\u0334"  # has the lowest one


class Table(NamedTuple):
    """The answers as arrays.

    Attributes:
        entries: shape ``(0x110000,)``, int64: for each code point ``place << 16 | bits | length``.
        pool: shape ``(size,)``, uint8: the bytes that the entries are places in.
        single: shape ``(128,)``, uint8: what an ASCII character becomes if that is one byte, else 0.
    """

    entries: Any
    pool: Any
    single: Any


class CharacterTable:
    """The table for one set of options, filled as texts need it; shared by all tokenizers with these options."""

    def __init__(
        self, clean_text: bool, handle_chinese_chars: bool, strip_accents: bool | None, lowercase: bool
    ):
        self._normalizer = BertNormalizer(clean_text, handle_chinese_chars, strip_accents, lowercase)
        self._reorders = lowercase if strip_accents is None else strip_accents
        self._lock = threading.Lock()
        self._known = np.zeros(0x110000 // BLOCK, np.bool_)
        self._entries = np.zeros(0x110000, np.int64)
        self._pool = bytearray()
        self._single = np.zeros(128, np.uint8)
        self._array = np.zeros(0, np.uint8)
        self.of_blocks(np.arange(1))

    def of_blocks(self, blocks: np.ndarray[Any, Any]) -> Table:
        """The table, with at least the code points of these blocks of 256 in it."""
        with self._lock:  # also to read: an entry must not be newer than the array it points into
            missing = blocks[~self._known[blocks]].tolist()
            for block in missing:
                self._ask(block * BLOCK)
                self._known[block] = True
            if missing:
                self._array = np.frombuffer(bytes(self._pool), np.uint8)
            return Table(self._entries, self._array, self._single)

    def _ask(self, first: int) -> None:
        answers: list[bytes] = []
        place = len(self._pool)
        for point in range(first, first + BLOCK):
            if point in _SURROGATES:
                continue
            kept = self._normalizer.normalize_str(chr(point))
            answer = _split(kept)
            bits = MARK if self._reorders and _moves(kept) else 0
            room = len(
                chr(point).encode()
            )  # of bytes here, and so of ids, as a piece has a character or more
            if len(answer) > GROWTH * room or len(kept.replace(" ", "")) > room:
                bits, answer = ALONE, b""
            self._entries[point] = place << PLACE | bits | len(answer)
            if point < 128 and len(answer) == 1:
                self._single[point] = answer[0]
            answers.append(answer)
            place += len(answer)
        self._pool += b"".join(answers)


@functools.cache
def character_table(
    clean_text: bool, handle_chinese_chars: bool, strip_accents: bool | None, lowercase: bool
) -> CharacterTable:
    """The one table of this process for these options of ``tokenizers.normalizers.BertNormalizer``."""
    return CharacterTable(clean_text, handle_chinese_chars, strip_accents, lowercase)


def _split(text: str) -> bytes:
    """Normalised text, with 0xFF where the library ends a word."""
    if not text:
        return b""
    pieces: list[tuple[str, Any]] = BertPreTokenizer().pre_tokenize_str(f"x{text}x")
    return bytes([BREAK]).join(piece.encode() for piece, _ in pieces)[1:-1]


def _moves(kept: str) -> bool:
    """Whether decomposition may put a mark of ``kept`` before or behind another."""
    if kept.isascii():
        return False
    order = NFD().normalize_str
    return order(_LAST_MARK + kept)[0] != _LAST_MARK or order(kept + _FIRST_MARK)[-1] != _FIRST_MARK
