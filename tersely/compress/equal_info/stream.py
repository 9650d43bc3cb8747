"""Windows of any size, coded as the text comes: for more bits than a compiled table could hold, 9 to 48 of them.

A window of b bits has 2**b cells. The first cell of a node means "the window ends here"; the others are shared out to the next
bytes by what the model says, and a byte takes its share:

    cells of a node    | end | byte 0 ...  | byte 1 ...  | ...  | byte 255 ... |
    its share              1   spare * (cdf[y + 1] / 2**16) - spare * (cdf[y] / 2**16), each rounded down

A byte that gets no cell ends the window and begins the next one. There every byte has a cell of its own first, so all bytes can
be coded, with at most one code for a byte. Shares are rounded as they add up, not by largest remainders as in the compiled
codes: that needs no sorting for each byte, and the fewer bits a window has, the more bytes it costs.

Documents are coded side by side, a byte of each at a time, so many short ones are fast and a single long one is slow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tersely.compress.equal_info.models.protocol import ByteModel
from tersely.errors import TokenizeError, UsageError
from tersely.ragged import Ragged
from tersely.tokenize.batch import one_buffer
from tersely.tokenize.protocol import Texts

FEWEST, MOST = 9, 48
"""Bits that a code may have."""
LONGEST_WINDOW = 255
"""Bytes that a window may have; a part of the format."""

_PRECISION = np.uint64(16)
_BYTE = np.uint64(8)
_ONE = np.uint64(1)


class WindowCoder:
    """Texts to codes of ``bits`` bits each, and back.

    Args:
        model: says what the next byte may be.
        bits: bits of a code, 9 to 48.
        carry: bytes before a window that the model is told in it; None for all that it can use.

    Raises:
        UsageError: bits or carry are outside what is possible.
    """

    def __init__(self, model: ByteModel, bits: int, *, carry: int | None = 0) -> None:
        if not FEWEST <= bits <= MOST:
            raise UsageError(
                f"no windows of {bits} bits: choose {FEWEST} to {MOST}, for 256 bytes need more than 8"
            )
        self._longest = model.context
        self._carry = self._longest if carry is None else carry
        if not 0 <= self._carry <= self._longest:
            raise UsageError(
                f"a model of {self._longest} bytes cannot carry {carry}: choose 0 to {self._longest}"
            )
        self._model, self.bits = model, bits

    def encode(self, texts: Texts) -> Ragged:
        """A row of codes for each text, uint64."""
        source = one_buffer(texts)
        text, rows = source.values, np.flatnonzero(source.lengths)
        place, stop = source.offsets[:-1][rows], source.offsets[1:][rows]
        state = _Windows(len(rows), self.bits)
        found: list[tuple[Any, Any]] = []
        while rows.size:
            byte = text[place].astype(np.int64)
            starts = self._starts(state)
            begin, end = starts[np.arange(len(rows)), byte], starts[np.arange(len(rows)), byte + 1]
            fits = (end > begin) & (state.length < LONGEST_WINDOW)
            ended = np.flatnonzero(~fits)
            found.append((rows[ended], state.low[ended].copy()))
            state.restart(ended, self._carry)
            taken = np.flatnonzero(fits)
            state.take(taken, begin[taken], end[taken], byte[taken], self._longest)
            place = place + fits
            going = place < stop
            last = np.flatnonzero(~going)
            found.append((rows[last], state.low[last].copy()))
            state.keep(going)
            rows, place, stop = rows[going], place[going], stop[going]
        return _in_rows(found, len(source))

    def decode(self, codes: Ragged) -> list[bytes]:
        """The bytes of each row.

        Raises:
            TokenizeError: a code is none that ``encode`` gives.
        """
        values, documents = codes.values.astype(np.uint64), len(codes)
        rows = np.flatnonzero(codes.lengths)
        place, stop = codes.offsets[:-1][rows], codes.offsets[1:][rows]
        state = _Windows(len(rows), self.bits)
        found: list[tuple[Any, Any]] = []
        while rows.size:
            beyond = values[place] - state.low
            self._check(values, place, beyond, state, rows)
            ended = (beyond == 0) & (state.length > 0)
            inside = np.flatnonzero(~ended)
            starts = self._starts(state)
            byte = (starts[inside] <= (beyond[inside] - _ONE)[:, None]).sum(1) - 1
            begin, end = starts[inside, byte], starts[inside, byte + 1]
            found.append((rows[inside], byte.astype(np.uint8)))
            state.take(inside, begin, end, byte, self._longest)
            state.restart(np.flatnonzero(ended), self._carry)
            place = place + ended
            going = place < stop
            state.keep(going)
            rows, place, stop = rows[going], place[going], stop[going]
        text = _in_rows(found, documents)
        return [
            bytes(text.values[text.offsets[i] : text.offsets[i + 1]].astype(np.uint8))
            for i in range(documents)
        ]

    def _starts(self, state: _Windows) -> Any:
        """Where the share of each byte begins, behind the first cell; shape ``(N, 257)``, uint64."""
        root = state.length == 0
        spare = state.cells - np.where(root, 257, 1).astype(np.uint64)
        chances = self._model.cdf(state.context).astype(np.uint64)
        return (spare[:, None] * chances >> _PRECISION) + np.arange(257, dtype=np.uint64) * root[:, None]

    def _check(self, values: Any, place: Any, beyond: Any, state: _Windows, rows: Any) -> None:
        """Refuses codes that are too large, the first cell of all, and cells behind a full window."""
        wrong = (values[place] >> np.uint64(self.bits) > 0) | ((beyond == 0) & (state.length == 0))
        wrong |= (beyond > 0) & (state.length == LONGEST_WINDOW)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise TokenizeError(
                f"document {rows[at]} has the code {values[place[at]]}, which stands for no text of {self.bits} bits",
                int(rows[at]),
            )


class _Windows:
    """Where each document is in its window: its first cell, how many it has, how many bytes it holds, and the context."""

    def __init__(self, documents: int, bits: int) -> None:
        self._all = _ONE << np.uint64(bits)
        self.low = np.zeros(documents, np.uint64)
        self.cells = np.full(documents, self._all)
        self.length = np.zeros(documents, np.int64)
        self.context = np.ones(documents, np.uint64)

    def take(self, which: Any, begin: Any, end: Any, byte: Any, longest: int) -> None:
        """These documents go on with a byte, whose share is given."""
        self.low[which] += begin + _ONE
        self.cells[which] = end - begin
        self.length[which] += 1
        if longest:
            room = _trimmed(self.context[which], longest - 1)
            self.context[which] = room << _BYTE | byte.astype(np.uint64)

    def restart(self, which: Any, carry: int) -> None:
        """These documents begin a window."""
        self.low[which], self.cells[which], self.length[which] = 0, self._all, 0
        self.context[which] = _trimmed(self.context[which], carry)

    def keep(self, going: Any) -> None:
        """Only these documents go on."""
        self.low, self.cells = self.low[going], self.cells[going]
        self.length, self.context = self.length[going], self.context[going]


def _trimmed(contexts: Any, longest: int) -> Any:
    """Contexts are a one bit with the bytes below it: of each, the last ``longest`` bytes."""
    limit = _ONE << np.uint64(8 * longest)
    return np.where(contexts >= limit, limit | contexts & (limit - _ONE), contexts)


def _in_rows(found: list[tuple[Any, Any]], documents: int) -> Ragged:
    """What was found step by step, put together by document."""
    rows = np.concatenate([rows for rows, _ in found]) if found else np.empty(0, np.int64)
    values = np.concatenate([values for _, values in found]) if found else np.empty(0, np.uint64)
    offsets = np.zeros(documents + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=documents), out=offsets[1:])
    return Ragged(values[np.argsort(rows, kind="stable")], offsets)
