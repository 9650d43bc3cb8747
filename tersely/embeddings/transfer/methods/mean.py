"""Each new row the mean of the rows of the token's pieces (FVT: Gee et al. 2022), pieces that stand where the token stands."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from tersely.embeddings.transfer.match import Match, Origin
from tersely.embeddings.transfer.methods.protocol import TableName


class Mean:
    """Means of pieces: a token that is one old token has its row, one without pieces the mean of all rows of text."""

    def __init__(self, match: Match) -> None:
        self._match = match
        lengths = match.pieces.lengths
        weights = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
        shape = len(match.pieces), len(match.ordinary)
        self._weights: Any = sparse.csr_array(
            (weights, match.pieces.values, match.pieces.offsets), shape=shape
        )

    @property
    def origins(self) -> np.ndarray[Any, Any]:
        """uint8, ``(V_new,)``: where each row comes from."""
        return self._match.origins

    def rows(self, old: np.ndarray[Any, Any], table: TableName) -> np.ndarray[Any, Any]:
        """The new table, float32 ``(V_new, D)``, from the old one, float32 ``(V_old, D)``; all tables alike."""
        new = self._weights @ old
        new[self._match.where(Origin.AVERAGE)] = old.mean(0, where=self._match.ordinary[:, None])
        return new
