"""Adam for the rows of a table, of which a batch touches few (Kingma and Ba 2015, algorithm 1, for each row apart).

A row that is not in the batch keeps its value and its moments, and each row counts its own steps, so that the first step of a
rare row is as long as that of a frequent one. Moments and the rows that are learned are float32, whatever the table is.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FIRST, _SECOND, _LEAST = 0.9, 0.999, 1e-8


class RowsAdam:
    """The state for one table: three tables in float32 (two where the table is float32 itself).

    Args:
        table: ``(rows, ...)``; its values are changed in place.
    """

    def __init__(self, table: Tensor) -> None:
        self._table = table
        self._exact = table.detach() if table.dtype == torch.float32 else table.detach().float()
        self._first, self._second = torch.zeros_like(self._exact), torch.zeros_like(self._exact)
        self._steps = torch.zeros(table.shape[0], *[1] * (table.dim() - 1), device=table.device)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """One step of the given rows, int64 ``(n,)``, each once, by their gradient ``(n, ...)``."""
        gradient = gradient.float()
        steps = self._steps[rows] + 1
        first = torch.lerp(gradient, self._first[rows], _FIRST)
        second = torch.lerp(gradient * gradient, self._second[rows], _SECOND)
        self._steps[rows], self._first[rows], self._second[rows] = steps, first, second
        change = first / (1 - _FIRST**steps) / ((second / (1 - _SECOND**steps)).sqrt() + _LEAST)
        self._exact[rows] -= rate * change
        if self._exact.dtype != self._table.dtype:
            self._table[rows] = self._exact[rows].to(self._table.dtype)
