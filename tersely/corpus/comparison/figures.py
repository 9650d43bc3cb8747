"""From ids of a sample to figures of the whole input, or of one group in it.

A document stands for as many as its stratum has of them in the whole input, by bytes: that is its weight. Weights are 1
where all was measured, so that figures are then exact counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tersely.corpus.comparison.documents import Documents
from tersely.corpus.comparison.encodings import Encoding
from tersely.pack import plan

_LOSSY = 0.95
"""Below this share of bytes that come back, a tokenizer is said to lose text."""

_PLANNED = 1 << 22
"""Documents that are planned at most; of larger inputs a part of the same composition."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a tokenizer makes of some documents.

    Attributes:
        measured: documents that were encoded.
        left_out: documents that the tokenizer refused or turned into nothing; they are in no figure below.
        bytes: UTF-8 bytes of the documents in the whole input.
        tokens: tokens they become, without what closes a document.
        bytes_per_token: the larger, the shorter the sequences.
        tokens_per_word: a word is what stands between white space; None where there is none.
        characters_per_word: says whether the text is written with blanks between words; None as above.
        tokens_per_character: a character is a Unicode code point.
        vocabulary_used: ids that occur, as a share of the vocabulary, 0 to 1.
        restored: share of the measured documents that decode to exactly their bytes, 0 to 1.
        bytes_back: share of the bytes of measured documents that their decodings have as well, order aside, 0 to 1: what is
            missing became unknown tokens or was normalised away, and makes sequences short at the price of the text.
        rows: rows of ``capacity`` tokens, documents closed by the eos id if there is one, as ``tersely prepare`` packs them.
        efficiency: share of the places in these rows that hold a token, 0 to 1.
    """

    measured: int
    left_out: int
    bytes: float
    tokens: float
    bytes_per_token: float
    tokens_per_word: float | None
    characters_per_word: float | None
    tokens_per_character: float
    vocabulary_used: float
    restored: float
    bytes_back: float
    rows: int
    efficiency: float

    @property
    def lossy(self) -> bool:
        """Whether so much text is lost that short sequences say little."""
        return self.bytes_back < _LOSSY


def figures(
    encoding: Encoding, documents: Documents, chosen: np.ndarray[Any, Any], capacity: int
) -> Figures | None:
    """The figures of the strata that ``chosen`` (bool, one for each stratum) names; None if nothing of them was encoded."""
    inside = chosen[documents.stratum]
    numbers = np.flatnonzero(inside & encoding.encoded)
    if not len(numbers):
        return None
    weights = weights_of(encoding, documents, chosen)[numbers]
    lengths = encoding.ids.lengths[numbers]
    tokens = float(weights @ lengths)
    words = float(weights @ documents.words[numbers])
    characters = float(weights @ documents.characters[numbers])
    size = float(weights @ documents.bytes[numbers])
    rows, efficiency = packed_rows(lengths + encoding.closing, weights, capacity)
    used = np.bincount(encoding.ids.take(numbers).values, minlength=encoding.vocab_size)
    return Figures(
        measured=len(numbers),
        left_out=int(inside.sum()) - len(numbers),
        bytes=size,
        tokens=tokens,
        bytes_per_token=size / tokens,
        tokens_per_word=tokens / words if words else None,
        characters_per_word=characters / words if words else None,
        tokens_per_character=tokens / characters,
        vocabulary_used=float((used > 0).mean()),
        restored=float(encoding.restored[numbers].mean()),
        bytes_back=float(weights @ encoding.came_back[numbers]) / size,
        rows=rows,
        efficiency=efficiency,
    )


def weights_of(
    encoding: Encoding, documents: Documents, chosen: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """How many documents of the whole input each document stands for, float64, shape ``(D,)``; 0 for those left out.

    The weighted bytes are the bytes of the chosen strata: documents left out count as the others of their stratum, and
    strata left out as the mean of the others, so that all tokenizers are charged for the same text.
    """
    true = np.array([stratum.bytes for stratum in documents.strata]) * chosen
    measured = np.bincount(
        documents.stratum, documents.bytes * encoding.encoded, minlength=len(documents.strata)
    )
    covered = measured > 0
    if not (true * covered).any():
        return np.zeros(len(documents.texts))
    scale = np.divide(true, measured, out=np.zeros_like(true), where=covered)
    return scale[documents.stratum] * encoding.encoded * (true.sum() / true[covered].sum())


def packed_rows(
    lengths: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], capacity: int
) -> tuple[int, float]:
    """Rows and their efficiency, planned on each length as often as its weight says."""
    total = float(weights.sum())
    ends = np.cumsum(weights) * min(1.0, _PLANNED / total)
    counts = np.diff(np.floor(ends + 1e-6), prepend=0).astype(np.int64)
    made = plan(np.repeat(lengths, counts), capacity)
    return round(len(made.bins) * total / counts.sum()), made.efficiency


def squared_lengths(encoding: Encoding, documents: Documents, capacity: int) -> tuple[float, float]:
    """Tokens with what closes documents, and the sum of squared lengths, over the whole input.

    A document longer than a row is split into rows that do not see each other, so its pieces are squared one by one.
    """
    chosen = np.ones(len(documents.strata), np.bool_)
    weights = weights_of(encoding, documents, chosen)
    lengths = (encoding.ids.lengths + encoding.closing).astype(np.float64)
    whole, rest = np.divmod(lengths, capacity)
    return float(weights @ lengths), float(weights @ (whole * capacity**2 + rest**2))
