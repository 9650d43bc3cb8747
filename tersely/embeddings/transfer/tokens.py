"""Each token of the new vocabulary: what it stands for, and what its row was made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tersely.embeddings.transfer.match import ORIGINS
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.ragged import Ragged


@dataclass(frozen=True)
class TokenTable:
    """A row for each token.

    Attributes:
        old: the old vocabulary.
        new: the new one.
        pieces: for each of the ``V_new`` tokens its old ids, int64.
        origins: uint8, ``(V_new,)``: indices into ``ORIGINS``.
        lengths: float32, ``(V_new,)``: of the rows of the inputs.
    """

    old: ByteView
    new: ByteView
    pieces: Ragged
    origins: np.ndarray[Any, Any]
    lengths: np.ndarray[Any, Any]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """``id``, ``token`` as it reads, ``origin``, ``pieces`` as they read, and ``length``."""
        values, offsets = self.pieces.values, self.pieces.offsets
        for number in range(len(self.new)):
            found = values[offsets[number] : offsets[number + 1]].tolist()
            yield {
                "id": number,
                "token": readable(self.new, number),
                "origin": str(ORIGINS[self.origins[number]]),
                "pieces": [readable(self.old, piece) for piece in found],
                "length": round(float(self.lengths[number]), 6),
            }

    def write(self, file: Path) -> None:
        """JSON lines, one for each token in the order of ids."""
        with file.open("w", encoding="utf-8") as out:
            for row in self:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def readable(view: ByteView, number: int) -> str:
    """The text of a token, with bytes that are no text as hexadecimal escapes; the spelling of a special token."""
    return view.tokens[number].decode("utf-8", "backslashreplace") or view.spellings[number]
