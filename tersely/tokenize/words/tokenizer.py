"""A byte tokenizer that knows where words are: the ids of ``bytes.py``, and the words of rows of such ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tersely.errors import choose
from tersely.ragged import Ragged
from tersely.tokenize.bytes import ByteTokenizer
from tersely.tokenize.protocol import CONFIG_NAME, Texts, config_fingerprint
from tersely.tokenize.words.segmentation import Pieces, WordRule, check_max_word_bytes, cut, nest, word_starts


class WordTokenizer:
    """Ids are those of ``ByteTokenizer(preset)``; ``words`` finds the words in rows of them.

    Words are not stored, they are found again when asked for. So one prepared corpus serves a model on bytes and one
    that pools bytes into words, with any rule.

    Args:
        rule: where words start, see ``WordRule``.
        preset: ``byt5``, ``blt``, ``hnet`` or ``evabyte``.
        max_word_bytes: the longest piece that ``pieces`` gives, at least 4; ``None`` leaves words whole.
    """

    def __init__(
        self, rule: WordRule | str = WordRule.GPT2, preset: str = "byt5", max_word_bytes: int | None = None
    ) -> None:
        check_max_word_bytes(max_word_bytes)
        self.rule = choose(WordRule, rule)
        self.preset = preset
        self.max_word_bytes = max_word_bytes
        self._bytes = ByteTokenizer(preset)

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        return self._bytes.vocab_size

    @property
    def bos_id(self) -> int | None:
        """The id that may open a document."""
        return self._bytes.bos_id

    @property
    def eos_id(self) -> int | None:
        """The id that may close a document."""
        return self._bytes.eos_id

    @property
    def pad_id(self) -> int | None:
        """The id for padding, where the layout has one."""
        return self._bytes.pad_id

    @property
    def fingerprint(self) -> str:
        """A hash of the configuration: another rule is another tokenizer, though the ids are the same."""
        return config_fingerprint(self._config())

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """The ids of ``ByteTokenizer.encode``, a row for each text."""
        return self._bytes.encode(texts, bos=bos, eos=eos)

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each the half-open range of its source, values ``(total, 2)`` int64."""
        return self._bytes.encode_with_offsets(texts, bos=bos, eos=eos, unit=unit)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The bytes of each row, special ids left out."""
        return self._bytes.decode(ids, bos=bos, eos=eos)

    def words(self, ids: Ragged) -> Ragged:
        """The words in rows of ids: a nested Ragged, rows -> words -> ids, whose ids are those given, not copied.

        A special id (begin, end, padding) is a word of its own, and text on one side of it does not influence words
        on the other; so documents in a packed row are apart where an end id closes each, and otherwise wherever the
        caller makes each a row. In ``hnet`` the bytes 0xFE and 0xFF, which no UTF-8 has, are taken for specials.

        Args:
            ids: rows as ``encode`` or a prepared folder gives them.

        Raises:
            TokenizeError: an id is outside the vocabulary, or no integer.
        """
        ids = ids.to_numpy()
        return nest(ids, word_starts(*self._documents(ids), self.rule))

    def pieces(self, ids: Ragged) -> Pieces:
        """``words``, those of more than ``max_word_bytes`` bytes cut, and which pieces continue the one before."""
        ids = ids.to_numpy()
        data, documents = self._documents(ids)
        return cut(ids, data, documents, word_starts(data, documents, self.rule), self.max_word_bytes)

    def save(self, folder: str | Path) -> None:
        """Writes the configuration into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(json.dumps(self._config(), indent=2) + "\n")

    def _documents(self, ids: Ragged) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The bytes of the ids, and offsets of what is segmented on its own: stretches of text, and each special."""
        data, special = self._bytes.bytes_of(ids.values)
        if self.preset == "hnet":
            special = ids.values >= np.uint8(254)
        places = np.flatnonzero(special)
        if not len(places):
            return data, ids.offsets
        bounds = np.concatenate([ids.offsets, places, places + 1])
        bounds.sort(kind="stable")  # three runs that are sorted: merged
        return data, bounds

    def _config(self) -> dict[str, Any]:
        return {
            "type": "words",
            "rule": str(self.rule),
            "preset": self.preset,
            "max_word_bytes": self.max_word_bytes,
        }

    def __repr__(self) -> str:
        return f"WordTokenizer({str(self.rule)!r}, {self.preset!r}, {self.max_word_bytes})"
