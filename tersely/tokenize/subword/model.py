"""What a subword vocabulary must offer, and the bytes that its ids stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from tersely.errors import TokenizeError
from tersely.ragged import Ragged

_Result = TypeVar("_Result")

Span = tuple[int, int]
"""Start and end of a range of characters."""


@dataclass(frozen=True)
class TokenBytes:
    """The bytes of each id, for vocabularies in which they do not depend on the neighbours.

    Attributes:
        values: ``vocab_size`` rows of uint8; empty for an id that decoding leaves out.
        exact: bool, ``(vocab_size,)``: whether an id in a text stands for just these bytes of it (the unknown id, say,
            does not).
        single_bytes: bool, ``(vocab_size,)``: the ids of byte fallback.
        at_start: the bytes of each id where it is the first of a document, if the space that encoding put there is
            taken away token by token.
        drops_space: whether instead one space is taken from the front of a decoded document.
    """

    values: Ragged
    exact: np.ndarray[Any, Any]
    single_bytes: np.ndarray[Any, Any]
    at_start: Ragged | None = None
    drops_space: bool = False

    def decode(self, ids: Ragged) -> list[bytes]:
        """The bytes of each row of ids."""
        taken = self.values.take(ids.values)
        flat, ends = taken.values.tobytes(), taken.offsets
        bounds = ends[ids.offsets].tolist()
        rows = [flat[start:stop] for start, stop in pairwise(bounds)]
        if self.drops_space:
            return [row.removeprefix(b" ") for row in rows]
        if self.at_start is None or not len(rows):
            return rows
        # The first id of each row that stands for anything: where more bytes than before the row have been given.
        first = np.searchsorted(ends, ends[ids.offsets[:-1]], "right") - 1
        for row, place in enumerate(first.tolist()):
            if rows[row]:
                size = int(ends[place + 1] - ends[place])
                rows[row] = self.at_start[int(ids.values[place])].tobytes() + rows[row][size:]
        return rows

    def without(self, left_out: np.ndarray[Any, Any]) -> TokenBytes:
        """The same, with no bytes for the ids that no text becomes; ``left_out`` is bool, ``(vocab_size,)``."""

        def kept(rows: Ragged) -> Ragged:
            return Ragged.from_rows(
                [b"" if out else row.tobytes() for row, out in zip(rows, left_out, strict=True)]
            )

        return replace(
            self,
            values=kept(self.values),
            exact=self.exact & ~left_out,
            at_start=None if self.at_start is None else kept(self.at_start),
        )


class SubwordModel(Protocol):
    """A vocabulary with the rules that split text into it. Text becomes no special id but those ``allowed``."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, specials included."""
        ...

    def pieces(self) -> TokenBytes | None:
        """The bytes of each id; None where the text of a token depends on its neighbours."""
        ...

    @property
    def specials(self) -> Mapping[str, str]:
        """The spellings of ``bos_token``, ``eos_token`` and ``pad_token``, as far as the files tell."""
        ...

    @property
    def identity(self) -> bytes:
        """All that decides ids, as bytes."""
        ...

    @property
    def allowed(self) -> Mapping[str, int]:
        """The special tokens that text may spell."""
        ...

    def token_id(self, token: str) -> int | None:
        """The id of a token by its spelling."""
        ...

    def reserved(self, specials: Mapping[str, str]) -> set[int]:
        """Ids that no text may become."""
        ...

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text; raises TokenizeError if the library fails."""
        ...

    def spans(self, text: str) -> list[Span]:
        """For each id of ``encode([text])`` the characters it came from; raises TokenizeError where the library cannot say."""
        ...

    def decode(self, rows: list[list[int]]) -> list[str]:
        """The text of each row, specials left out."""
        ...

    def files(self) -> Mapping[str, bytes]:
        """The names and contents of the files from which ``load`` makes the same vocabulary again."""
        ...

    def config(self) -> dict[str, str]:
        """What ``load`` needs to know beside the files."""
        ...


def guarded(call: Callable[[], _Result], what: str) -> _Result:
    """Runs ``call``, turning a library's errors into TokenizeError, panics too.

    A panic of Rust code is a BaseException that ``except Exception`` misses; it can only be told by its name.
    """
    try:
        return call()
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise TokenizeError(f"{what} ({type(error).__name__}: {error})") from error
        raise


def ragged_ids(rows: list[Any]) -> Ragged:
    """Lists or arrays of ids as one Ragged of uint32."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    values = np.empty(int(offsets[-1]), np.uint32)
    for row, start in zip(rows, offsets.tolist(), strict=False):
        values[start : start + len(row)] = row
    return Ragged(values, offsets)
