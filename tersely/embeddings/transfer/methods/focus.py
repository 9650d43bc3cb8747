"""Rows that are means of the rows of similar tokens: FOCUS (Dobler and de Melo 2023).

Tokens are similar that keep the same company in the corpus (``cooccurrence.py``). The weights of the shared tokens are the
sparsemax of the cosines to them (Martins and Astudillo 2016): the nearest point with weights that are at least 0 and sum to 1,
so that few are not 0.

    sparsemax(z) = max(z - tau, 0)        with tau such that it sums to 1
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from tersely.embeddings.transfer.match import Match, Origin
from tersely.embeddings.transfer.methods.sums import Sums
from tersely.errors import EmbeddingError

_BLOCK = 1 << 25  # cosines at once


class Focus(Sums):
    """Means of similar rows; tokens without a vector have the mean of their pieces.

    Args:
        match: the two vocabularies.
        vectors: float32, ``(V_new, D)``, of length 1, or 0 for tokens that have none.

    Raises:
        EmbeddingError: no token that both vocabularies have has a vector.
    """

    def __init__(self, match: Match, vectors: np.ndarray[Any, Any]) -> None:
        known = vectors.any(1)
        shared = np.flatnonzero(match.alike() & known)
        free = match.where(Origin.COMPOSED, Origin.CONTAINED, Origin.AVERAGE) & ~match.alike()
        places = np.flatnonzero(free & known)
        if free.any() and not len(shared):
            raise EmbeddingError(
                "no token that the vocabularies share is frequent in the corpus: give more text, or choose method='fit'"
            )
        olds = match.pieces.values[match.pieces.offsets[shared]]
        shape = len(places), len(match.ordinary)
        size = max(_BLOCK // max(len(shared), 1), 1)
        parts: list[Any] = [sparse.csr_array((0, len(shared)), dtype=np.float32)]
        for start in range(0, len(places), size):
            near = vectors[places[start : start + size]] @ vectors[shared].T
            parts.append(sparse.csr_array(sparsemax(near)))
        weights: Any = sparse.vstack(parts, format="coo")
        line, column = weights.coords
        sums = sparse.csr_array((weights.data, (line, olds[column])), shape=shape)
        super().__init__(match, places, sums, Origin.SIMILAR)


def sparsemax(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The point of the simplex that is nearest to each row, ``(N, O)``, in the dtype of ``scores``.

    No row is sorted: what falls below ``tau`` leaves, and ``tau`` rises, until nothing does (Michelot 1986).
    """
    inside = np.ones(scores.shape, bool)
    while True:
        tau = (scores.sum(1, where=inside, dtype=np.float64) - 1) / inside.sum(1)
        rest = inside & (scores > tau[:, None])
        if rest.sum() == inside.sum():
            return np.maximum(scores - tau[:, None].astype(scores.dtype), 0)
        inside = rest
