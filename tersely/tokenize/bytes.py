"""Byte tokenizers: an id is a byte plus a constant, with the published layouts of special ids.

    preset    pad  bos  eos  others          a byte b is   vocab_size   used by
    byt5       0    -    1   unk 2           b + 3         384          ByT5, MrT5
    blt        -    1    2   boe 0, bpe 3    b + 4         260          BLT
    hnet       -   254  255                  b             256          H-Net (254 and 255 never occur in UTF-8)
    evabyte    0    1    2   unk 3, sep 4    b + 64        320          EvaByte

Cost: one join of the documents and one pass that adds and widens; about the speed of numpy's own addition.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from tersely.errors import TokenizeError, choose
from tersely.ragged import Ragged
from tersely.tokenize.characters import character_of_byte
from tersely.tokenize.protocol import (
    CONFIG_NAME,
    Texts,
    as_bytes,
    check_ids,
    check_unit,
    config_fingerprint,
    id_dtype,
    listed,
)

SENTINELS_HELD = 125
"""How many sentinels (places for masked spans) the ByT5 layout has."""


class Sentinels(StrEnum):
    """Which ids stand for the sentinels of ByT5's span corruption; the two public conventions differ."""

    CHECKPOINT = "checkpoint"
    """``258 - i``: what the ByT5 and MrT5 checkpoints were trained with. Shares ids with the bytes 0xFF, 0xFE, ..."""
    TRANSFORMERS = "transformers"
    """``259 + i``: what ``transformers.ByT5Tokenizer`` gives for ``<extra_id_i>``."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where a published vocabulary puts its specials and its 256 bytes."""

    shift: int
    vocab_size: int
    pad: int | None = None
    bos: int | None = None
    eos: int | None = None


class ByteTokenizer:
    """Every byte is one id; any bytes round trip, also those that are not UTF-8.

    Args:
        preset: ``byt5``, ``blt``, ``hnet`` or ``evabyte``.
        sentinels: for ``byt5``, the convention of ``sentinel_id``.

    Text that looks like a special token (``</s>``, ``<extra_id_0>``) stays text.
    """

    PRESETS: ClassVar[dict[str, _Layout]] = {
        "byt5": _Layout(shift=3, vocab_size=384, pad=0, eos=1),
        "blt": _Layout(shift=4, vocab_size=260, bos=1, eos=2),
        "hnet": _Layout(shift=0, vocab_size=256, bos=254, eos=255),
        "evabyte": _Layout(shift=64, vocab_size=320, pad=0, bos=1, eos=2),
    }

    def __init__(self, preset: str = "byt5", sentinels: Sentinels | str = Sentinels.TRANSFORMERS) -> None:
        if not isinstance(preset, str) or preset not in self.PRESETS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TokenizeError(f"no byte preset {preset!r}: choose one of {', '.join(self.PRESETS)}")
        self.preset = preset
        self.sentinels = choose(Sentinels, sentinels)
        self._layout = self.PRESETS[preset]
        self._dtype = id_dtype(self._layout.vocab_size)

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials and sentinels included."""
        return self._layout.vocab_size

    @property
    def bos_id(self) -> int | None:
        """The id that may open a document."""
        return self._layout.bos

    @property
    def eos_id(self) -> int | None:
        """The id that may close a document."""
        return self._layout.eos

    @property
    def pad_id(self) -> int | None:
        """The id for padding, where the layout has one."""
        return self._layout.pad

    @property
    def fingerprint(self) -> str:
        """A hash of the configuration."""
        return config_fingerprint(self._config())

    def sentinel_id(self, index: int) -> int:
        """The id of the ``index``-th sentinel (``byt5`` only), ``0 <= index < 125``, in the chosen convention."""
        if self.preset != "byt5":
            raise TokenizeError(f"the preset {self.preset!r} has no sentinels: 'byt5' does")
        if not 0 <= index < SENTINELS_HELD:
            raise TokenizeError(f"sentinel {index} does not exist: there are {SENTINELS_HELD}")
        return 258 - index if self.sentinels is Sentinels.CHECKPOINT else 259 + index

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """A row of ids for each text: ``total`` ids, uint8 (``hnet``) or uint16.

        Args:
            texts: strings (as UTF-8), bytes, or a Ragged of uint8.
            bos: open each row with ``bos_id``.
            eos: close each row with ``eos_id``.

        Raises:
            TokenizeError: a special is asked for that the preset lacks, or a string has a lone surrogate.
        """
        lead, trail = self._specials(bos, eos)
        # Joined with a gap where specials go, so that one vector pass does all rows; the specials are set after it.
        gap = len(lead) + len(trail)
        joined, lengths = _joined(texts, gap)
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths + gap, out=offsets[1:])
        if not len(lengths):
            return Ragged(np.empty(0, self._dtype), offsets)
        if not self._layout.shift and not lead and not trail:
            return Ragged(joined, offsets)
        ids = np.empty(int(offsets[-1]), self._dtype)
        body = ids[len(lead) : len(ids) - len(trail)]
        np.add(joined, self._dtype.type(self._layout.shift), out=body, dtype=self._dtype)
        if lead:
            ids[offsets[:-1]] = lead[0]
        if trail:
            ids[offsets[1:] - 1] = trail[0]
        return Ragged(ids, offsets)

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each the half-open range of its source, values ``(total, 2)`` int64.

        With ``unit="character"`` the range is that of the character the byte belongs to, an index into
        ``text.decode("utf-8", "surrogateescape")``: there a byte that is not UTF-8 is a character of its own.
        """
        check_unit(unit)
        lead, trail = self._specials(bos, eos)
        rows = [bytes(row) for row in as_bytes(texts)]
        spans: list[np.ndarray[Any, Any]] = []
        for row in rows:
            starts = np.arange(len(row)) if unit == "byte" else character_of_byte(row)
            stops = starts + 1
            end = int(stops[-1]) if len(stops) else 0
            spans.append(
                np.stack(
                    [
                        np.concatenate([[0] * len(lead), starts, [end] * len(trail)]),
                        np.concatenate([[0] * len(lead), stops, [end] * len(trail)]),
                    ],
                    axis=1,
                ).astype(np.int64)
            )
        ids = self.encode(rows, bos=bos, eos=eos)
        return ids, Ragged(np.concatenate([np.empty((0, 2), np.int64), *spans]), ids.offsets)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The bytes of each row; ids that are not a byte of the layout are left out.

        In ``hnet`` the specials are also the bytes 0xFE and 0xFF, so there ``bos`` / ``eos`` say whether the first
        / last id of a row is one.
        """
        rows = ids.to_numpy()
        data, special = self.bytes_of(rows.values)
        if self.preset == "hnet":
            filled = rows.lengths > 0
            first, last = rows.offsets[:-1][filled], rows.offsets[1:][filled] - 1
            special[first[rows.values[first] == self.bos_id]] |= bos
            special[last[rows.values[last] == self.eos_id]] |= eos
        places = np.flatnonzero(special)
        kept = np.delete(data, places).tobytes()
        ends = (rows.offsets - np.searchsorted(places, rows.offsets)).tolist()
        return [kept[start:stop] for start, stop in zip(ends[:-1], ends[1:], strict=True)]

    def bytes_of(self, values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The byte of each id, uint8, and which ids are no byte of the layout, bool; all of shape ``(total,)``.

        What the first has for the latter means nothing. In ``hnet`` every id is a byte.

        Raises:
            TokenizeError: an id is outside the vocabulary, or no integer.
        """
        values = check_ids(values, self.vocab_size)
        shift = self._layout.shift
        return (values - shift).astype(np.uint8), (values < shift) | (values >= shift + 256)

    def save(self, folder: str | Path) -> None:
        """Writes the configuration into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(json.dumps(self._config(), indent=2) + "\n")

    def _config(self) -> dict[str, Any]:
        config = {"type": "bytes", "preset": self.preset}
        return config | {"sentinels": str(self.sentinels)} if self.preset == "byt5" else config

    def _specials(self, bos: bool, eos: bool) -> tuple[list[int], list[int]]:
        lead = [self.bos_id] if bos else []
        trail = [self.eos_id] if eos else []
        if None in lead or None in trail:
            raise TokenizeError(f"the preset {self.preset!r} has no {'bos' if None in lead else 'eos'} id")
        return [i for i in lead if i is not None], [i for i in trail if i is not None]

    def __repr__(self) -> str:
        return f"ByteTokenizer({self.preset!r})"


def _joined(texts: Texts, gap: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The bytes of all documents with ``gap`` zeros between them, and how many bytes each has."""
    rows: Any = texts if isinstance(texts, Ragged) else listed(texts)
    if _all_ascii(rows):
        joined = ("\0" * gap).join(rows).encode()  # one encoding for all; a character is a byte
    else:
        rows = as_bytes(rows)
        joined = bytes(gap).join(rows)
    return np.frombuffer(joined, np.uint8), np.fromiter(map(len, rows), np.int64, len(rows))


def _all_ascii(texts: Texts) -> bool:
    """Whether these are strings of ASCII only; does not look into the strings, which know it."""
    try:
        return all(map(str.isascii, texts))  # pyright: ignore[reportArgumentType]
    except TypeError:
        return False
