"""Rows of which some are sums of old rows, the same for all tables, and the others as by ``Mean``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods.mean import Mean
from tersely.embeddings.transfer.methods.protocol import TableName


class Sums:
    """What ``Focus`` and ``Omp`` do once they have their weights.

    Args:
        match: the two vocabularies.
        places: int64, ``(N,)``: the new ids whose rows are sums.
        weights: sparse, ``(N, V_old)``.
        origin: of these rows.
    """

    def __init__(self, match: Match, places: np.ndarray[Any, Any], weights: Any, origin: Origin) -> None:
        self._mean, self._places, self._weights = Mean(match), places, weights
        self._origins = match.origins.copy()
        self._origins[places] = ORIGINS.index(origin)

    @property
    def origins(self) -> np.ndarray[Any, Any]:
        """uint8, ``(V_new,)``: where each row comes from."""
        return self._origins

    def rows(self, old: np.ndarray[Any, Any], table: TableName) -> np.ndarray[Any, Any]:
        """The new table, float32 ``(V_new, D)``, from the old one, float32 ``(V_old, D)``; all tables alike."""
        new = self._mean.rows(old, table)
        new[self._places] = self._weights @ old
        return new
