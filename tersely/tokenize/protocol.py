"""What every tokenizer offers, what counts as documents and as ids, and the dtype of ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from tersely.errors import TokenizeError, UsageError
from tersely.ragged import Ragged

Texts: TypeAlias = "Iterable[str | bytes] | Ragged"
"""Documents: strings, raw bytes, or a Ragged of uint8 (for example from ``Ragged.from_arrow``)."""

MOST_IDS = 1 << 24
"""A vocabulary file names ids below this: arrays with a place for every id up to the largest are made of it."""

CONFIG_NAME = "tersely_tokenizer.json"
"""The file in a saved folder that says which tokenizer it holds."""


@runtime_checkable
class Tokenizer(Protocol):
    """Turns documents into ids and back; byte, subword and compressed tokenizers are interchangeable through it.

    Text inside a document never becomes a special token. Specials are added only where ``bos`` / ``eos`` ask.
    """

    @property
    def vocab_size(self) -> int:
        """One more than the largest id that can occur, added tokens included."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash, 64 hexadecimal digits, of all that decides which ids a text gets."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The id that may open a document."""
        ...

    @property
    def eos_id(self) -> int | None:
        """The id that may close a document."""
        ...

    @property
    def pad_id(self) -> int | None:
        """The id a padded batch is filled with."""
        ...

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """A row of ids for each text, in the smallest unsigned dtype that holds the vocabulary.

        Raises TokenizeError, with the index of the document, if a text cannot be encoded.
        """
        ...

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each id the half-open range of its source: values of shape ``(total, 2)``, int64.

        An added special gets the empty range at its end of the document.
        """
        ...

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The bytes of each row, special ids left out.

        ``bos`` / ``eos`` say that the rows were encoded with these; it matters only to a vocabulary in which
        they are also ordinary bytes (``hnet``).
        """
        ...

    def save(self, folder: str | Path) -> None:
        """Writes what ``tersely.load_tokenizer(folder)`` needs to bring it back, with the same fingerprint."""
        ...


@runtime_checkable
class DecodesOn(Protocol):
    """A tokenizer whose ids mean something else after other bytes: ``decode`` is for rows that begin a document."""

    def decode_from(self, before: bytes, ids: Any) -> tuple[bytes, bytes]:
        """The bytes of ids after the text ``before``, and what to give as ``before`` with the next ids."""
        ...


def id_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned dtype that holds ids ``0 .. vocab_size - 1``: uint8, uint16 or uint32."""
    for dtype in (np.uint8, np.uint16, np.uint32):
        if vocab_size <= np.iinfo(dtype).max + 1:
            return np.dtype(dtype)
    raise TokenizeError(f"a vocabulary of {vocab_size} ids needs more than 32 bits")


def size_of_vocabulary(ids: Iterable[int]) -> int:
    """One more than the largest of the ids that a vocabulary file names, of which there is at least one.

    Raises:
        TokenizeError: an id is ``MOST_IDS`` or above.
    """
    largest = max(ids)
    if largest >= MOST_IDS:
        raise TokenizeError(f"the id {largest} is too large: number the tokens below {MOST_IDS}")
    return largest + 1


def check_ids(values: Any, vocab_size: int) -> np.ndarray[Any, Any]:
    """``values``, those of a numpy Ragged of ids, shape ``(total,)``; int64 if there are none, else as they are.

    Raises:
        TokenizeError: they are no integers, not in one dimension, or one is outside ``0 .. vocab_size - 1``.
    """
    if isinstance(values, Ragged) or values.ndim != 1:
        kind = "rows of rows" if isinstance(values, Ragged) else f"{values.ndim} dimensions"
        raise TokenizeError(f"ids come in rows of integers, not in {kind}: take the values apart first")
    if not len(values):
        return np.empty(0, np.int64)
    if values.dtype.kind not in "iu":
        raise TokenizeError(f"ids are integers, not {values.dtype}")
    wrong = int(values.min()) if values.min() < 0 else int(values.max())
    if not 0 <= wrong < vocab_size:
        raise TokenizeError(f"the id {wrong} is not in the vocabulary: it is outside 0 to {vocab_size - 1}")
    return values


def check_unit(unit: str) -> None:
    """Raises UsageError unless ``unit`` is one in which offsets are counted."""
    if unit not in ("byte", "character"):
        raise UsageError(f"no unit {unit!r} of offsets: choose 'byte' or 'character'")


def config_fingerprint(config: dict[str, Any], *content: bytes) -> str:
    """sha256 over a JSON-able configuration and further contents, independent of key order."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, ensure_ascii=True).encode())
    for part in content:
        digest.update(b"\0" + hashlib.sha256(part).digest())
    return digest.hexdigest()


def listed(texts: Iterable[str | bytes]) -> list[str | bytes]:
    """The documents as a list, which can be gone through again; an iterator is read to its end.

    Raises:
        TokenizeError: ``texts`` is one document, or nothing that holds several.
    """
    if isinstance(texts, list):
        return texts
    if isinstance(texts, str | bytes | bytearray | memoryview):
        raise TokenizeError("encode takes a list of documents: put the one text into a list")
    try:
        documents = iter(texts)
    except TypeError:
        raise TokenizeError(f"encode takes a list of documents, not {type(texts).__name__}") from None
    return list(documents)


def byte_rows(texts: Ragged) -> Ragged:
    """Documents in a Ragged, checked to be rows of uint8; values one after another in memory, copied only if not so.

    Raises:
        TokenizeError: the rows hold something else.
    """
    rows = texts.to_numpy()
    if isinstance(rows.values, Ragged) or rows.values.dtype != np.uint8 or rows.values.ndim != 1:
        held = "rows" if isinstance(rows.values, Ragged) else f"{rows.values.dtype} {rows.values.shape}"
        raise TokenizeError(f"a Ragged of documents holds rows of bytes (uint8), not {held}")
    return Ragged(np.ascontiguousarray(rows.values), rows.offsets)


def as_bytes(texts: Texts) -> list[bytes | memoryview]:
    """The UTF-8 bytes of each text.

    Raises:
        TokenizeError: a string holds a lone surrogate, which no UTF-8 stands for, or an item is neither kind.
    """
    if isinstance(texts, Ragged):
        return [memoryview(row) for row in byte_rows(texts)]
    texts = listed(texts)
    try:
        return [text if isinstance(text, bytes) else text.encode() for text in texts]
    except (UnicodeEncodeError, AttributeError):
        return [
            _as_bytes(text, index) for index, text in enumerate(texts)
        ]  # the same, and says which one it is


def _as_bytes(text: str | bytes, document: int) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenizeError(
            f"document {document} has a lone surrogate at character {error.start}: "
            "pass bytes, or replace it with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')",
            document,
        ) from None
    except AttributeError:
        raise TokenizeError(
            f"document {document} is of type {type(text).__name__}: documents are str or bytes", document
        ) from None
