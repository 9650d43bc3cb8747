"""What the network sees of a token: its old pieces, those it would have at the start of a word, how its text looks, how often it is.

    b"the" for an old WordPiece     pieces  ##the       where it stands: inside a word, as far as bytes can tell
                                    others  the         what it is at the start of a line, where there is no blank either
                                    look    small       which tells how likely each is
                                    frequency   -0.4    against its pieces', in a corpus, for decoders

N tokens, ``SLOTS`` places: ``PIECES`` for the pieces, ``OTHERS`` for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np

from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView

PIECES = 8
OTHERS = 4
SLOTS = PIECES + OTHERS
NONE = -1
"""Stands in a slot without a piece."""

_RAREST = 1e-5  # is added to shares: samples of different sizes then tell much the same of rare tokens


class Look(IntEnum):
    """How the text of a token looks; a new token of which the old vocabulary has the same bytes adds ``len(Look)``."""

    BLANK = 0
    """It starts with a blank."""
    SMALL = 1
    """It starts with a letter without case, or a small one."""
    CAPITAL = 2
    """It starts with a capital letter, without a blank."""
    OTHER = 3
    """It starts with a digit, a sign or a broken character."""


KINDS = 2 * len(Look) + 1
SPECIAL = KINDS - 1
"""The kind of special tokens, which keep their rows."""


@dataclass(frozen=True)
class Surface:
    """What the network sees of N tokens.

    Attributes:
        pieces: int32, ``(N, SLOTS)``: old ids, or ``NONE``.
        kinds: uint8, ``(N,)``: a look, with or without ``len(Look)``, or ``SPECIAL``.
        frequencies: float32, ``(N,)``: how often the token occurs, in logarithms, less what its pieces have on average; 0 where
            that is not told, and of tokens without pieces.
    """

    pieces: np.ndarray[Any, Any]
    kinds: np.ndarray[Any, Any]
    frequencies: np.ndarray[Any, Any]


class SurfaceReader:
    """Makes surfaces of tokens; each is looked up once.

    Args:
        old: the vocabulary that has rows.
        pieces_of: any bytes in its pieces.
    """

    def __init__(self, old: ByteView, pieces_of: Decomposition) -> None:
        self._old, self._pieces_of = old, pieces_of
        self._known = dict[bytes, tuple[list[int], int]]()

    def __call__(self, tokens: Sequence[bytes]) -> Surface:
        """The surface of tokens of text."""
        rows = list[list[int]]()
        kinds = np.empty(len(tokens), np.uint8)
        for number, token in enumerate(tokens):
            if token not in self._known:
                self._known[token] = self._read(token)
            row, kinds[number] = self._known[token]
            rows.append(row)
        return Surface(np.array(rows, np.int32).reshape(-1, SLOTS), kinds, np.zeros(len(tokens), np.float32))

    def _read(self, token: bytes) -> tuple[list[int], int]:
        same = self._old.same(token, "", False) if token else NONE
        pieces = [same] if same >= 0 else self._pieces_of(token)
        look = _look(token)
        others = list[int]()
        if look in (Look.SMALL, Look.CAPITAL):
            others = self._pieces_of(b" " + token)
        row = _padded(pieces, PIECES) + _padded(others, OTHERS)
        return row, look + (len(Look) if same >= 0 else 0)


def special_surface(ids: Sequence[int]) -> Surface:
    """The surface of special tokens with these old ids."""
    pieces = np.full((len(ids), SLOTS), NONE, np.int32)
    pieces[:, 0] = ids
    return Surface(pieces, np.full(len(ids), SPECIAL, np.uint8), np.zeros(len(ids), np.float32))


def counted(surface: Surface, of_tokens: np.ndarray[Any, Any], of_pieces: np.ndarray[Any, Any]) -> Surface:
    """The same with frequencies.

    Args:
        surface: of N tokens.
        of_tokens: ``log_shares`` of these, ``(N,)``.
        of_pieces: ``log_shares`` of the old tokens, ``(V_old,)``.
    """
    pieces = surface.pieces[:, :PIECES]
    there = pieces >= 0
    number = there.sum(1)
    mean = (of_pieces[pieces] * there).sum(1) / np.maximum(number, 1)
    found = np.where(number > 0, of_tokens - mean, 0).astype(np.float32)
    return replace(surface, frequencies=found)


def log_shares(counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Logarithms of the shares that counts are of their sum, none below that of ``_RAREST``, float64."""
    return np.log(counts / max(counts.sum(), 1) + _RAREST)


def join(*surfaces: Surface) -> Surface:
    """Several, one after the other."""
    return Surface(
        np.concatenate([one.pieces for one in surfaces]),
        np.concatenate([one.kinds for one in surfaces]),
        np.concatenate([one.frequencies for one in surfaces]),
    )


def _look(token: bytes) -> Look:
    first = token.decode("utf-8", "replace")[:1]
    if first == " ":
        return Look.BLANK
    if not first.isalpha():
        return Look.OTHER
    return Look.CAPITAL if first.isupper() else Look.SMALL


def _padded(ids: list[int], size: int) -> list[int]:
    return ids[:size] + [NONE] * (size - len(ids[:size]))
