"""Rows that predict a token as often as it occurs: the mean of the rows of its pieces, and what old tokens differ by from theirs.

A head says in its rows how often each token comes, most of all where it has no bias. The mean of frequent pieces makes a rare
token frequent, and that of rare ones a frequent token rare. The old vocabulary tells by how much: most of its tokens ``a`` are
two others, ``l`` and ``r``, in a row. With ``y`` the logarithm of a count in a corpus, weighted least squares over all of these

    E[a] - (E[l] + E[r]) / 2  =  b + (y[a] - (y[l] + y[r]) / 2) c + rest[a]

give ``c``, the change of a row with the count, and ``b``, what every whole differs by from its parts. A new token ``t`` of old
pieces ``a_1 .. a_k`` has

    X[t]  =  mean of E[a_i]  +  SHARE (b + (y[t] - mean of y[a_i]) c)

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
from tersely.embeddings.transfer.vocabulary import ByteView

SHARE = 0.25
"""How far a row is moved. Half is better for small models that are hardly trained; where one is trained well, rows of a Unigram
are then no better than means."""

_UNSEEN = 0.5
"""The count of a token that does not occur, and what is added to all others."""


class Frequency:
    """Means of pieces for the inputs; in tables that predict, moved to how often tokens occur.

    Args:
        match: the two vocabularies.
        old: the vocabulary that has rows.
        words: how often each word occurs.
        old_pieces: a word in pieces of the old vocabulary.
        new_pieces: the same for the new one.
        tied: whether the inputs predict, too.
    """

    def __init__(
        self,
        match: Match,
        old: ByteView,
        words: Mapping[bytes, int],
        old_pieces: Decomposition,
        new_pieces: Decomposition,
        tied: bool,
    ) -> None:
        self._mean, self._tied = Mean(match), tied
        counts = old_pieces.counts(words)
        logs, new_logs = (np.log(count + _UNSEEN) for count in (counts, new_pieces.counts(words)))
        self._offset, self._slope = _regression(_halves(old, counts), counts, logs)
        self._moved = np.flatnonzero(
            match.where(Origin.COMPOSED, Origin.CONTAINED) & (match.pieces.lengths > 1)
        )
        of_pieces = self._mean.rows(logs[:, None], TableName.HEAD)[:, 0]
        self._lack = (new_logs - of_pieces)[self._moved].astype(np.float32)
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
            new[self._moved] += SHARE * (self._offset @ old + np.outer(self._lack, self._slope @ old))
        return new


def _halves(old: ByteView, counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """int64, ``(3, P)``: tokens that occur and are two others in a row, and these two.

    Of several ways to cut a token, the one whose rarer half is the most frequent.
    """
    found = list[tuple[int, int, int]]()
    for number in np.flatnonzero(counts).tolist():
        token = old.tokens[number]
        ways = [
            (left[0], right[0])
            for cut in range(1, len(token))
            if (left := old.ids.get(token[:cut])) and (right := old.ids.get(token[cut:]))
        ]
        if ways and not old.special[number]:
            found.append((number, *max(ways, key=lambda way: min(counts[way[0]], counts[way[1]]))))
    return np.array(found, np.int64).reshape(-1, 3).T


def _regression(
    halves: np.ndarray[Any, Any], counts: np.ndarray[Any, Any], logs: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """float32, ``(V_old,)`` each: what to multiply old rows by for ``b`` and for ``c``; a token weighs the root of its count."""
    whole, left, right = halves
    known = np.stack([np.ones(len(whole)), logs[whole] - (logs[left] + logs[right]) / 2])
    weighted = known * np.sqrt(counts[whole])
    solved = np.linalg.pinv(weighted @ known.T) @ weighted
    found = np.zeros((2, len(counts)), np.float32)
    for row, values in zip(found, solved, strict=True):
        np.add.at(row, whole, values)
        np.subtract.at(row, left, values / 2)
        np.subtract.at(row, right, values / 2)
    return found[0], found[1]
