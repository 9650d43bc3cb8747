"""What a way to make new rows offers."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol

import numpy as np


class MethodName(StrEnum):
    """The ways there are."""

    MEAN = "mean"
    """The mean of the pieces of a token; needs no corpus."""
    FIT = "fit"
    """Rows fitted to a corpus: words come out as before, by least squares; in decoders, tokens are predicted as often as they
    occur."""
    HYPERNET = "hypernet"
    """The rows that a network makes, which was trained for the model."""
    OMP = "omp"
    """The rows of shared tokens, added up as a donor's rows are, by orthogonal matching pursuit."""
    FOCUS = "focus"
    """The means of the rows of tokens that keep the same company in a corpus."""


class TableName(StrEnum):
    """The tables of a model that have a row for each id."""

    INPUTS = "inputs"
    """The input embeddings, and the head where it is tied to them."""
    HEAD = "head"
    """A head of its own."""
    BIAS = "bias"
    """The bias of the head, a column."""


class Method(Protocol):
    """Makes the table of the new vocabulary from that of the old one, whichever table it is."""

    @property
    def origins(self) -> np.ndarray[Any, Any]:
        """uint8, ``(V_new,)``: where each row comes from, as in ``Match``."""
        ...

    def rows(self, old: np.ndarray[Any, Any], table: TableName) -> np.ndarray[Any, Any]:
        """The new table, float32 ``(V_new, D)``, from the old one, float32 ``(V_old, D)``; rows of special tokens are exact."""
        ...
