"""What a model of the next byte offers to the builder of a code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

PRECISION = 16
"""A distribution is shared out as ``2**PRECISION`` parts."""


@runtime_checkable
class ByteModel(Protocol):
    """Says how likely each byte is after the bytes before it, in whole numbers.

    Whatever a model is made of, what it returns here decides the bits of a code: the same model must give the same
    numbers on every machine. Contexts are those of ``contexts.py``.
    """

    @property
    def context(self) -> int:
        """How many bytes before the next one can count, at most ``contexts.LONGEST``."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash, 64 hexadecimal digits, of all that decides the distributions."""
        ...

    def known(self, contexts: Any) -> Any:
        """For each context the part of it that counts: a suffix, which has the same distribution, also further on.

        Args:
            contexts: shape ``(N,)``, uint64.

        Returns:
            Shape ``(N,)``, uint64. A model that tells all contexts apart returns what it was given.
        """
        ...

    def cdf(self, contexts: Any) -> Any:
        """The distributions of the next byte, summed up.

        Args:
            contexts: shape ``(N,)``, uint64.

        Returns:
            Shape ``(N, 257)``, int32: from 0 to ``2**PRECISION``, growing by at least 1 with every byte.
        """
        ...

    def save(self, file: str | Path) -> None:
        """Writes the model as a safetensors file."""
        ...
