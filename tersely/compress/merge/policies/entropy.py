"""EntropyPolicy: a boundary where the next byte is hard to tell (BLT, arXiv 2412.09871, section 2.3).

BLT asks a small transformer for the entropy of the next byte; here a table over the last two bytes does, so a decision
costs one look-up. The table is counted from texts, as is the threshold that gives a share of boundaries on them. Both
are integers, in units of 2^-16 bits, which no change of a model's dtype rounds.

Legend: ``T`` packed positions, ``S = 257`` symbols: bytes, and one for where documents begin and end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tersely.compress.merge.policies.earlier import earlier
from tersely.compress.merge.policies.exact import as_fraction
from tersely.compress.merge.policies.protocol import Choice
from tersely.errors import UsageError
from tersely.kernels.segment import positions_of_tokens

_SYMBOLS, _EDGE, _UNIT = 257, 256, 1 << 16


class EntropyPolicy(nn.Module):
    """Begins a group at each position whose id was hard to tell from the two before it. Causal; its exact form is not.

    Args:
        first_byte: the id of byte 0; ids that are no bytes count as the edge of a document.
    """

    causal, reach = True, 2
    table: Tensor
    threshold: Tensor

    def __init__(self, first_byte: int = 0) -> None:
        super().__init__()
        self.first_byte = first_byte
        self.register_buffer("table", torch.zeros(_SYMBOLS * _SYMBOLS, dtype=torch.int32))
        self.register_buffer("threshold", torch.full((), -1, dtype=torch.int32))
        self._known = False

    def fit(self, texts: Sequence[str | bytes], share: float) -> EntropyPolicy:
        """Counts the table, and sets the threshold to keep ``share`` of these texts' positions, both edges counted.

        Fewer are kept where many have the same entropy. Takes some 80 bytes of memory for each of text.

        Raises:
            UsageError: the share is out of range, or there is no text.
        """
        wanted = float(as_fraction(share))
        context, symbols = _contexts([t.encode() if isinstance(t, str) else t for t in texts])
        if not len(symbols):
            raise UsageError("entropies cannot be counted from no texts: give some")
        table = np.round(_entropies(context, symbols) * _UNIT).astype(np.int32)
        falling = np.sort(table[context])[::-1]
        # The first edge of each text is kept whatever it is, and takes from the share.
        more = round(wanted * (len(symbols) + len(texts))) - len(texts)
        threshold = falling[more] if 0 <= more < len(falling) else falling[0] if more < 0 else 0
        self.table.copy_(torch.from_numpy(table))
        self.threshold.fill_(int(threshold))
        return self

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, input_ids: Tensor, position_ids: Tensor | None = None
    ) -> Choice:
        """See ``BoundaryPolicy``; the score is the entropy in bits. Raises UsageError before it was fitted."""
        if not self._known:
            if int(self.threshold) < 0:
                raise UsageError("an entropy policy knows nothing yet: call its fit(texts, share) first")
            self._known = True  # the device is asked once
        at = positions_of_tokens(cu_seqlens, len(input_ids)) if position_ids is None else position_ids
        byte = input_ids - self.first_byte
        symbols = torch.where((byte >= 0) & (byte < _EDGE), byte, _EDGE)
        context = earlier(symbols, at, 2, _EDGE) * _SYMBOLS + earlier(symbols, at, 1, _EDGE)
        entropy = self.table[context]
        return Choice((at == 0) | ((at > 0) & (entropy > self.threshold)), entropy.float() / _UNIT)


def _contexts(texts: list[bytes]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The two symbols before each byte and before the end of each text, as one number; and the symbols themselves."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    ends = np.cumsum(lengths + 3)
    stream = np.full(int(ends[-1]) if len(ends) else 0, _EDGE, np.int64)
    inside = np.ones(len(stream), bool)
    for edge in (ends - lengths - 3, ends - lengths - 2):
        inside[edge] = False
    text = inside.copy()
    text[ends - 1] = False
    stream[text] = np.frombuffer(b"".join(texts), np.uint8)
    places = np.flatnonzero(inside)
    return stream[places - 2] * _SYMBOLS + stream[places - 1], stream[places]


def _entropies(context: np.ndarray[Any, Any], symbols: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Bits of the symbol after each context, ``(S * S,)``; rare contexts lean on shorter ones (Witten and Bell 1991)."""
    second = context % _SYMBOLS
    none = (np.bincount(symbols, minlength=_SYMBOLS) + 1.0) / (len(symbols) + _SYMBOLS)
    counts = np.bincount(second * _SYMBOLS + symbols, minlength=_SYMBOLS**2).reshape(_SYMBOLS, _SYMBOLS)
    one = _blended(counts, none[None])
    out = np.tile(_bits(one), (_SYMBOLS, 1))
    order = np.argsort(context, kind="stable")
    cuts = np.searchsorted(context[order], np.arange(_SYMBOLS + 1) * _SYMBOLS)
    for first in range(_SYMBOLS):
        rows = order[cuts[first] : cuts[first + 1]]
        if len(rows):
            counts = np.bincount(second[rows] * _SYMBOLS + symbols[rows], minlength=_SYMBOLS**2)
            out[first] = _bits(_blended(counts.reshape(_SYMBOLS, _SYMBOLS), one))
    return out.ravel()


def _blended(counts: np.ndarray[Any, Any], shorter: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Counts ``(S, S)`` as probabilities, with as much of the shorter context's as there are different symbols."""
    different = np.maximum((counts > 0).sum(1, keepdims=True), 1)
    return (counts + different * shorter) / (counts.sum(1, keepdims=True) + different)


def _bits(p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return -(p * np.log2(p)).sum(1)
