"""What each token of the new vocabulary is in the old one: the same token, several pieces, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.ragged import Ragged


class Origin(StrEnum):
    """Where a row of the new table comes from."""

    COPIED = "copied"
    """The row of the same bytes."""
    SPECIAL = "special"
    """The row of the special token that it is, or whose part it takes."""
    COMPOSED = "composed"
    """The mean of the rows of its pieces."""
    FITTED = "fitted"
    """The closed-form fit on a corpus: on its words, or on how often tokens occur."""
    PREDICTED = "predicted"
    """What a trained network made of its pieces."""
    AVERAGE = "average"
    """The mean of all rows: the old vocabulary cannot spell it."""
    CONTAINED = "contained"
    """The mean of the shortest old tokens that contain the byte, which the old vocabulary cannot spell by itself."""
    DONATED = "donated"
    """The rows of some shared tokens, added up as the rows of a donor want it."""
    SIMILAR = "similar"
    """The mean of the rows of shared tokens that keep the same company."""


ORIGINS = list(Origin)


@dataclass(frozen=True)
class Match:
    """The new vocabulary in terms of the old one.

    Attributes:
        pieces: for each of the ``V_new`` tokens its ids in the old vocabulary, int64; empty where there are none.
        origins: uint8, ``(V_new,)``: indices into ``ORIGINS``.
        ordinary: bool, ``(V_old,)``: the old tokens that stand for text.
    """

    pieces: Ragged
    origins: np.ndarray[Any, Any]
    ordinary: np.ndarray[Any, Any]

    @classmethod
    def of(
        cls,
        old: ByteView,
        pieces_of: Decomposition,
        new: ByteView,
        specials: Mapping[int, int],
        contained: bool = False,
        beginnings: np.ndarray[Any, Any] | None = None,
    ) -> Match:
        """Matches two vocabularies.

        Args:
            old: the vocabulary that has rows.
            pieces_of: any bytes in its pieces.
            new: the vocabulary that needs some.
            specials: for special tokens of the new vocabulary the old ids that they take their rows from.
            contained: whether a byte that cannot be spelled is made of the tokens that contain it.
            beginnings: float64, ``(V_new,)``: how often each token begins a word, as a share; NaN where that is not known.
        """
        known = np.full(len(new), np.nan) if beginnings is None else beginnings
        rows = list[list[int]]()
        origins = np.full(len(new), ORIGINS.index(Origin.AVERAGE), np.uint8)
        for number, token in enumerate(new.tokens):
            same = specials.get(number, -1)
            origin = Origin.SPECIAL
            if same < 0 and token:
                same, origin = (
                    old.same(token, new.spellings[number], bool(new.single_byte[number])),
                    Origin.COPIED,
                )
            begins = None if np.isnan(known[number]) else bool(known[number] > 0.5)
            found = [same] if same >= 0 else pieces_of(token, begins)
            origin = origin if same >= 0 else Origin.COMPOSED
            if contained and not found and len(token) == 1:
                found, origin = _containing(old, token), Origin.CONTAINED
            rows.append(found)
            if found:
                origins[number] = ORIGINS.index(origin)
        lengths = np.array([len(row) for row in rows], np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        values = np.array([number for row in rows for number in row], np.int64)
        return cls(Ragged(values, offsets), origins, ~old.special)

    def where(self, *origins: Origin) -> np.ndarray[Any, Any]:
        """bool, ``(V_new,)``: the tokens of these origins."""
        return np.isin(self.origins, [ORIGINS.index(origin) for origin in origins])

    def alike(self) -> np.ndarray[Any, Any]:
        """bool, ``(V_new,)``: the tokens of text that the old tokenizer takes for one of its own, by their bytes or by what its
        normalizer makes of them: for BERT, ``The`` is ``the``.
        """
        return self.where(Origin.COPIED, Origin.COMPOSED) & (self.pieces.lengths == 1)


def _containing(old: ByteView, byte: bytes) -> list[int]:
    """The shortest tokens with the byte in them."""
    found = [number for number, token in enumerate(old.tokens) if byte in token]
    least = min((len(old.tokens[number]) for number in found), default=0)
    return [number for number in found if len(old.tokens[number]) == least]
