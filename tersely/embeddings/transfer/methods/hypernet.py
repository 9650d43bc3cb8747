"""Rows by a network that was trained for the model (hypernet/): the mean of a token's pieces, and what the network adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tersely.embeddings.transfer.hypernet.network import Hypernet, with_average
from tersely.embeddings.transfer.hypernet.surface import SPECIAL, SurfaceReader, counted, log_shares
from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods.mean import Mean
from tersely.embeddings.transfer.methods.protocol import TableName
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView

_TOKENS = 8192  # rows that are made at once


class Predicted:
    """Rows by a network; a table that it was not trained for has the means.

    A vocabulary that is but tokens of the old one keeps their rows, as nothing is new to it. A network that was told how often
    tokens occur is told so again; where they occur as often no more, as bytes do among which there are no words, rows are made.

    Args:
        match: the two vocabularies.
        network: fits the model (``load_hypernet``); it stays where it is.
        old: the vocabulary that has rows.
        pieces: any bytes in its pieces.
        new: the vocabulary that needs some.
        new_pieces: any bytes in its pieces.
        words: how often each word occurs.
    """

    def __init__(
        self,
        match: Match,
        network: Hypernet,
        old: ByteView,
        pieces: Decomposition,
        new: ByteView,
        new_pieces: Decomposition,
        words: Mapping[bytes, int],
    ) -> None:
        self._mean, self._network, self._ordinary = Mean(match), network, match.ordinary
        self._surface = SurfaceReader(old, pieces)(new.tokens)
        if network.config.counted:
            shares = [log_shares(cut.counts(words)) for cut in (new_pieces, pieces)]
            self._surface = counted(self._surface, *shares)
        made = ~match.where(Origin.SPECIAL) & ~new.special
        known = not match.where(Origin.COMPOSED, Origin.AVERAGE)[~new.special].any()
        if known and not self._surface.frequencies[made].any():
            made[:] = False
        self._surface.kinds[~made] = SPECIAL
        self._origins = match.origins.copy()
        self._origins[made] = ORIGINS.index(Origin.PREDICTED)

    @property
    def origins(self) -> np.ndarray[Any, Any]:
        """uint8, ``(V_new,)``: where each row comes from."""
        return self._origins

    @torch.inference_mode()
    def rows(self, old: np.ndarray[Any, Any], table: TableName) -> np.ndarray[Any, Any]:
        """The new table, float32 ``(V_new, D)``, from the old one, float32 ``(V_old, D)``."""
        rows = self._mean.rows(old, table)
        if table not in self._network.config.dims:
            return rows
        device = self._network.device
        known = with_average(torch.from_numpy(old), torch.from_numpy(self._ordinary)).to(device)
        places = np.flatnonzero(self._surface.kinds != SPECIAL)
        for part in np.split(places, range(_TOKENS, len(places), _TOKENS)):
            if len(part):
                pieces, kinds = (
                    torch.from_numpy(array[part]).long().to(device)
                    for array in (self._surface.pieces, self._surface.kinds)
                )
                often = torch.from_numpy(self._surface.frequencies[part]).to(device)
                rows[part] += self._network(str(table), known, pieces, kinds, often).cpu().numpy()
        return rows
