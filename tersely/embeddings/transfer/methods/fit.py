"""Rows with which words come out as before: least squares in closed form.

For a word w, seen n times in a corpus, with old pieces a_1 .. a_k and new pieces t_1 .. t_m,

    (X[t_1] + ... + X[t_m]) / m  =  (E[a_1] + ... + E[a_k]) / k       with the weight n

and all rows are drawn to those of ``Mean``, with the weight ``DRAW``. Rows of tokens that both vocabularies have are known
and stay; only the others are solved for. With A of a row for each word and a column for each unknown token, C = X - Mean:

    (A' A + DRAW I) C  =  A' (what the words lack under Mean)

The matrix is sparse, symmetric and positive; conjugate gradients with the diagonal as preconditioner need memory for a few
blocks of columns, where a factorisation would fill in. No model is run: heads and biases are tables like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods.mean import Mean
from tersely.embeddings.transfer.methods.protocol import TableName
from tersely.embeddings.transfer.pieces import Decomposition

DRAW = 3.0
"""Weight of the mean of pieces, in occurrences of a word."""

_COLUMNS = 128
_TOLERANCE = 1e-5
_STEPS = 1000


class Fit:
    """Least squares on the words of a corpus.

    Args:
        match: the two vocabularies.
        words: how often each word occurs.
        old_pieces: a word in pieces of the old vocabulary.
        new_pieces: the same for the new one.
    """

    def __init__(
        self, match: Match, words: Mapping[bytes, int], old_pieces: Decomposition, new_pieces: Decomposition
    ) -> None:
        self._mean = Mean(match)
        pairs = [
            (found, made, count)
            for word, count in words.items()
            if (found := old_pieces.of_word(word)) and (made := new_pieces.of_word(word))
        ]
        root = np.sqrt(np.array([count for *_, count in pairs], np.float64))
        old = _means([found for found, _, _ in pairs], root, len(match.ordinary))
        new = _means([made for _, made, _ in pairs], root, len(match.pieces))
        free = match.where(Origin.COMPOSED, Origin.CONTAINED, Origin.AVERAGE)
        self._fitted = np.flatnonzero(free & (abs(new).sum(0) > 0))
        unknown: Any = new[:, self._fitted]
        self._normal: Any = (unknown.T @ unknown + DRAW * sparse.eye_array(len(self._fitted))).tocsr()
        # A' of what the words have, in old rows and in new ones: all that is needed of the words.
        self._have: Any = (unknown.T @ old).tocsr()
        self._lack: Any = (unknown.T @ new).tocsr()
        self._origins = match.origins.copy()
        self._origins[self._fitted] = ORIGINS.index(Origin.FITTED)

    @property
    def origins(self) -> np.ndarray[Any, Any]:
        """uint8, ``(V_new,)``: where each row comes from."""
        return self._origins

    def rows(self, old: np.ndarray[Any, Any], table: TableName) -> np.ndarray[Any, Any]:
        """The new table, float32 ``(V_new, D)``, from the old one, float32 ``(V_old, D)``; all tables alike."""
        new = self._mean.rows(old, table)
        for start in range(0, old.shape[1], _COLUMNS):
            part = slice(start, start + _COLUMNS)
            right = self._have @ old[:, part].astype(np.float64) - self._lack @ new[:, part].astype(
                np.float64
            )
            new[self._fitted, part] += solve(self._normal, right).astype(np.float32)
        return new


def solve(matrix: Any, right: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Solves ``matrix @ x = right`` by conjugate gradients, a column at a time, all columns at once.

    Args:
        matrix: sparse, symmetric, positive definite, ``(N, N)``.
        right: float64, ``(N, D)``.
    """
    scale = 1 / matrix.diagonal()[:, None]
    found, rest = np.zeros_like(right), right.copy()
    ahead = scale * rest
    along, power = ahead.copy(), (rest * ahead).sum(0)
    enough = _TOLERANCE**2 * power
    for _ in range(_STEPS):
        if (power <= enough).all():
            break
        pushed = matrix @ along
        step = power / np.maximum((along * pushed).sum(0), np.finfo(np.float64).tiny)
        found += step * along
        rest -= step * pushed
        ahead = scale * rest
        power, before = (rest * ahead).sum(0), power
        along = ahead + power / np.maximum(before, np.finfo(np.float64).tiny) * along
    return found


def _means(rows: list[list[int]], weights: np.ndarray[Any, Any], width: int) -> Any:
    """A sparse matrix ``(len(rows), width)`` that takes the weighted mean of the listed columns of each row."""
    lengths = np.array([len(row) for row in rows], np.int64)
    values = np.repeat(weights / np.maximum(lengths, 1), lengths)
    columns = np.array([number for row in rows for number in row], np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return sparse.csr_array((values, columns, offsets), shape=(len(rows), width))
