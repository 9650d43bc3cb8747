"""SubwordTokenizer: any BPE, WordPiece or Unigram vocabulary behind the Protocol.

Ids are those of the vocabulary's own library. Special tokens are found in a text only where the caller allowed them by
name. Offsets are exact: where the ids give back the bytes of a document they are counted from those, elsewhere the
library's alignment is taken if it can be checked, and refused if it cannot.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from tersely.errors import TokenizeError, UsageError
from tersely.ragged import Ragged
from tersely.tokenize.batch import thread_count
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
from tersely.tokenize.subword.fast import fast_encoder
from tersely.tokenize.subword.files import file_in, read_json, read_model, stored_specials
from tersely.tokenize.subword.huggingface import HuggingFaceModel
from tersely.tokenize.subword.model import Span, SubwordModel
from tersely.tokenize.subword.offsets import (
    byte_of_character,
    characters_of,
    part_characters,
    spans_of_pieces,
)


class SubwordTokenizer:
    """A subword vocabulary.

    Args:
        model: the vocabulary; or the content of a ``tokenizer.json``.
        specials: the spelling of ``bos_token``, ``eos_token`` and ``pad_token``, each of which may be missing; by
            default none.
        allowed_specials: special tokens of a ``tokenizer.json`` that text may spell; all others stay text. (A ``model``
            knows its own.)
        threads: how many threads encode (the ids do not depend on it); by default one for each processor.
        fast: whether an engine may stand in for the vocabulary's own library: gigatoken, if it is installed, or ours.

    Raises:
        TokenizeError: the content cannot be loaded, or lacks a named special.
    """

    def __init__(
        self,
        model: SubwordModel | str | bytes,
        specials: dict[str, str] | None = None,
        *,
        allowed_specials: Sequence[str] = (),
        threads: int | None = None,
        fast: bool = True,
    ) -> None:
        if isinstance(allowed_specials, str):
            raise UsageError(f"allowed_specials is a list of tokens: give [{allowed_specials!r}]")
        self._threads = thread_count(threads)
        if isinstance(model, str | bytes):
            model = HuggingFaceModel(model, self._threads, allowed_specials)
        self._model = model
        self._dtype = id_dtype(model.vocab_size)
        self._specials = dict(specials or {})
        self._special_ids = {role: self._id(token, role) for role, token in self._specials.items()}
        self._reserved = np.zeros(model.vocab_size, np.bool_)
        self._reserved[list(model.reserved(self._specials))] = True
        self._fast = fast_encoder(model, self._threads) if fast else None
        pieces = model.pieces()
        self._pieces = None if pieces is None else pieces.without(self._reserved)

    def _id(self, token: str, role: str) -> int:
        number = self._model.token_id(token)
        if number is None:
            raise TokenizeError(f"the {role} {token!r} is not in the vocabulary: name one that is")
        return number

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        allowed_specials: Sequence[str] | None = None,
        threads: int | None = None,
        fast: bool = True,
    ) -> SubwordTokenizer:
        """From a ``tokenizer.json``, ``NAME.tiktoken`` or SentencePiece ``.model`` file, or a folder that holds one.

        The specials come from the ``tersely_tokenizer.json`` or ``tokenizer_config.json`` beside it, else from the
        file itself, by their usual spellings.

        Raises:
            TokenizeError: the file cannot be read or loaded.
        """
        path = Path(path)
        stored = read_json(path / CONFIG_NAME) if path.is_dir() else {}
        file = file_in(path, stored) if path.is_dir() else path
        count = thread_count(threads)
        try:
            allowed = stored.get("allowed_specials", []) if allowed_specials is None else allowed_specials
            if isinstance(allowed, str):
                raise UsageError(f"allowed_specials is a list of tokens: give [{allowed!r}]")
            model = read_model(file, stored, count, allowed)
            specials = stored_specials(file.parent)
            specials = dict(model.specials) if specials is None else specials
            return cls(model, specials, threads=count, fast=fast)
        except TokenizeError as error:
            raise TokenizeError(f"{file}: {error}") from error

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included."""
        return self._model.vocab_size

    @property
    def bos_id(self) -> int | None:
        """The id that may open a document."""
        return self._special_ids.get("bos_token")

    @property
    def eos_id(self) -> int | None:
        """The id that may close a document."""
        return self._special_ids.get("eos_token")

    @property
    def pad_id(self) -> int | None:
        """The id for padding, where the vocabulary has one."""
        return self._special_ids.get("pad_token")

    @property
    def fingerprint(self) -> str:
        """A hash of the vocabulary, the rules and the specials (stored truncation and padding do not count)."""
        return config_fingerprint(self._config(), self._model.identity)

    @property
    def engine(self) -> str:
        """What encodes at present: ``gigatoken``, ``the engine for words``, or the vocabulary's own ``library``."""
        return (self._fast and self._fast.engine) or "library"

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """A row of ids for each text, in the smallest unsigned dtype that holds the vocabulary.

        Raises:
            TokenizeError: a text is not UTF-8, or the library fails on it, or it spells a special token that this
                vocabulary cannot keep as text (``document`` is its index); or a special is asked for that it lacks.
        """
        lead, trail = self._asked(bos, eos)
        return self._closed(self._bare(_as_text(texts)), lead, trail)[0]

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each the half-open range of the text it came from, values ``(total, 2)`` int64.

        A token of a part of a character has, in bytes, its own part, and in characters that character. Where a
        normaliser made several tokens of one character, all have its range.

        Raises:
            TokenizeError: as ``encode``; or the source of a token cannot be told for certain.
        """
        check_unit(unit)
        lead, trail = self._asked(bos, eos)
        documents = _as_text(texts)
        rows = self._bare(documents)
        contents = [document.encode() for document in documents]
        spans = np.empty((len(rows.values), 2), np.int64)
        exact = [False] * len(contents)
        if self._pieces is not None:
            exact = spans_of_pieces(self._pieces, rows, contents, spans)
        for document, (start, stop) in enumerate(pairwise(rows.offsets.tolist())):
            if not exact[document]:
                spans[start:stop] = self._spans_of_library(
                    document, documents[document], rows.values[start:stop]
                )
            if unit == "character":
                spans[start:stop] = characters_of(spans[start:stop], documents[document])
        ids, inner = self._closed(rows, lead, trail)
        closed = np.zeros((len(ids.values), 2), np.int64)
        closed[inner] = spans
        if trail:
            ends = [len(part) for part in (contents if unit == "byte" else documents)]
            closed[ids.offsets[1:] - 1] = np.array(ends, np.int64)[:, None]
        return ids, Ragged(closed, ids.offsets)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The bytes of each row, special tokens left out (but for allowed ones, which are text).

        Byte-level vocabularies give back their bytes exactly, also in the middle of a character; others the text of
        the library's decoder as UTF-8.
        """
        given = ids.to_numpy()
        rows = Ragged(check_ids(given.values, self.vocab_size), given.offsets)
        if bos or eos:
            rows = _without_ends(rows, self.bos_id if bos else None, self.eos_id if eos else None)
        if self._pieces is not None:
            return self._pieces.decode(rows)
        kept = [[number for number in row if not self._reserved[number]] for row in rows.to_list()]
        return [text.encode() for text in self._model.decode(kept)]

    @property
    def model(self) -> SubwordModel:
        """The vocabulary, as its own library runs it."""
        return self._model

    def with_model(self, model: str) -> SubwordTokenizer:
        """A tokenizer with the same specials, threads and choice of engine for another ``tokenizer.json``."""
        allowed = list(self._model.allowed)
        return SubwordTokenizer(
            model,
            self._specials,
            allowed_specials=allowed,
            threads=self._threads,
            fast=self._fast is not None,
        )

    def save(self, folder: str | Path) -> None:
        """Writes the vocabulary's file and the specials into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._model.files().items():
            (folder / name).write_bytes(content)
        config = json.dumps(self._config(), indent=2)
        (folder / CONFIG_NAME).write_text(config + "\n", encoding="utf-8")

    def new_job(self) -> None:
        """Makes the engine be compared again on what is encoded next."""
        if self._fast is not None:
            self._fast.new_job()

    def _config(self) -> dict[str, Any]:
        allowed = {"allowed_specials": sorted(self._model.allowed)} if self._model.allowed else {}
        return {"type": "subword", **self._model.config(), **self._specials, **allowed}

    def _asked(self, bos: bool, eos: bool) -> tuple[list[int], list[int]]:
        for asked, role in ((bos, "bos_token"), (eos, "eos_token")):
            if asked and role not in self._special_ids:
                raise TokenizeError(
                    f"the vocabulary names no {role}: load it with specials={{'{role}': ...}}"
                )
        lead = [self._special_ids["bos_token"]] if bos else []
        return lead, [self._special_ids["eos_token"]] if eos else []

    def _bare(self, documents: list[str]) -> Ragged:
        """The ids of documents without what opens and closes them, checked for specials that nobody allowed."""
        rows = self._encode(documents)
        spelled = self._reserved[rows.values]
        if spelled.any():
            place = int(spelled.argmax())
            document = int(np.searchsorted(rows.offsets, place, "right")) - 1
            self._refuse_spelling(document, int(rows.values[place]))
        return Ragged(rows.values.astype(self._dtype), rows.offsets)

    def _encode(self, documents: list[str]) -> Ragged:
        encode = self._model.encode if self._fast is None else self._fast.encode
        try:
            return encode(documents)
        except TokenizeError:
            for index, text in enumerate(documents):  # the library does not say which one: find it
                try:
                    text.encode()
                    self._model.encode([text])
                except UnicodeEncodeError as error:
                    raise TokenizeError(
                        f"document {index} has a lone surrogate at character {error.start}: replace it, or leave the "
                        "document out",
                        index,
                    ) from None
                except TokenizeError as error:
                    raise TokenizeError(
                        f"document {index} of {len(text)} characters: {error}; leave it out or clean it",
                        index,
                    ) from error
            raise

    def _closed(self, rows: Ragged, lead: list[int], trail: list[int]) -> tuple[Ragged, np.ndarray[Any, Any]]:
        """The rows with what opens and closes them, and which of the values are neither."""
        offsets = rows.offsets + np.arange(len(rows) + 1) * (len(lead) + len(trail))
        inner = np.ones(int(offsets[-1]), np.bool_)
        values = np.empty(len(inner), self._dtype)
        if lead:
            values[offsets[:-1]], inner[offsets[:-1]] = lead[0], False
        if trail:
            values[offsets[1:] - 1], inner[offsets[1:] - 1] = trail[0], False
        values[inner] = rows.values
        return Ragged(values, offsets), inner

    def _refuse_spelling(self, document: int, number: int) -> NoReturn:
        raise TokenizeError(
            f"document {document} spells the special token of id {number}, which this vocabulary cannot keep as text: "
            "change the spelling, allow it by name (allowed_specials), or leave the document out",
            document,
        )

    def _spans_of_library(self, document: int, text: str, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Byte ranges from the library's character ranges."""
        try:
            found: list[Span] = self._model.spans(text)
        except TokenizeError as error:
            raise TokenizeError(f"document {document} has no exact offsets: {error}", document) from error
        spans = byte_of_character(text)[np.array(found, np.int64).reshape(-1, 2)]
        if self._pieces is not None:
            part_characters(spans, self._pieces.single_bytes[ids])
        return spans


def _as_text(texts: Texts) -> list[str]:
    rows = [bytes(row) for row in as_bytes(texts)] if isinstance(texts, Ragged) else listed(texts)
    documents: list[str] = []
    for index, text in enumerate(rows):
        try:
            documents.append(text if isinstance(text, str) else text.decode())
        except UnicodeDecodeError as error:
            raise TokenizeError(
                f"document {index} is not UTF-8 at byte {error.start}: subword vocabularies take text", index
            ) from error
        except AttributeError:
            raise TokenizeError(
                f"document {index} is of type {type(text).__name__}: documents are str or bytes", index
            ) from None
    return documents


def _without_ends(rows: Ragged, bos: int | None, eos: int | None) -> Ragged:
    kept = np.ones(len(rows.values), np.bool_)
    filled = rows.lengths > 0
    first, last = rows.offsets[:-1][filled], rows.offsets[1:][filled] - 1
    kept[first[rows.values[first] == bos]] = False
    kept[last[rows.values[last] == eos]] = False
    return Ragged(rows.values[kept], np.concatenate([[0], np.cumsum(kept)])[rows.offsets])
