"""Rows that predict a token as often as it occurs: the mean of the rows of its pieces, moved by how rows change with counts.

A head says in its rows how often each token comes, most of all where it has no bias. The mean of frequent pieces makes a rare
token frequent, and that of rare ones a frequent token rare. With y the logarithm of a count in a corpus, least squares over the
old tokens ``a`` that occur,

    E[a]  =  m + y[a] c + rest[a]

give ``c``, the change of a row with the count. A new token ``t`` of old pieces ``a_1 .. a_k`` has

    X[t]  =  mean of E[a_i]  +  SHARE (y[t] - mean of y[a_i]) c

All of it goes for each column by itself, and no model is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods.mean import Mean
from tersely.embeddings.transfer.methods.protocol import TableName
from tersely.embeddings.transfer.pieces import Decomposition

SHARE = 0.7
"""How far a row is moved: the whole way was worse for every tokenizer that was tried."""

_UNSEEN = 0.5
"""The count of a token that does not occur, and what is added to all others."""


class Frequency:
    """Means of pieces for the inputs; in tables that predict, moved to how often tokens occur.

    Args:
        match: the two vocabularies.
        words: how often each word occurs.
        old_pieces: a word in pieces of the old vocabulary.
        new_pieces: the same for the new one.
        tied: whether the inputs predict, too.
    """

    def __init__(
        self,
        match: Match,
        words: Mapping[bytes, int],
        old_pieces: Decomposition,
        new_pieces: Decomposition,
        tied: bool,
    ) -> None:
        self._mean, self._tied = Mean(match), tied
        old, new = (
            _counts(words, pieces, size)
            for pieces, size in ((old_pieces, len(match.ordinary)), (new_pieces, len(match.pieces)))
        )
        logs = np.log(old + _UNSEEN)
        known = match.ordinary & (old > 0)
        apart = np.where(known, logs - logs.mean(where=known), 0) if known.any() else np.zeros_like(logs)
        self._slope = (apart / max(apart @ apart, 1e-9)).astype(np.float32)
        self._moved = np.flatnonzero(match.where(Origin.COMPOSED, Origin.CONTAINED))
        of_pieces = self._mean.rows(logs[:, None], TableName.HEAD)[:, 0]
        self._lack = SHARE * (np.log(new + _UNSEEN) - of_pieces)[self._moved].astype(np.float32)
        self._origins = match.origins.copy()
        self._origins[self._moved] = ORIGINS.index(Origin.FITTED)

    @property
    def origins(self) -> np.ndarray[Any, Any]:
        """uint8, ``(V_new,)``: where each row comes from."""
        return self._origins

    def rows(self, old: np.ndarray[Any, Any], table: TableName) -> np.ndarray[Any, Any]:
        """The new table, float32 ``(V_new, D)``, from the old one, float32 ``(V_old, D)``."""
        new = self._mean.rows(old, table)
        if self._tied or table is not TableName.INPUTS:
            new[self._moved] += np.outer(self._lack, self._slope @ old)
        return new


def _counts(words: Mapping[bytes, int], pieces: Decomposition, size: int) -> np.ndarray[Any, Any]:
    """float64, ``(size,)``: how often each token occurs in the words."""
    cut = [(pieces.of_word(word), count) for word, count in words.items()]
    ids = np.array([number for found, _ in cut for number in found], np.int64)
    weights = np.repeat([count for _, count in cut], [len(found) for found, _ in cut])
    return np.bincount(ids, weights, size)
