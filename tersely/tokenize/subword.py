"""Subword tokenizers: any Hugging Face ``tokenizer.json``, run by the ``tokenizers`` library.

What a stored file may do to a corpus is undone on loading: its truncation would cut documents, its padding would
fill them, its dropout would make ids random, and its special tokens would be found inside ordinary text. Where the
spelling of a special token also stands in the vocabulary itself (Unigram models), text with that spelling cannot be
kept text: such a document is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
import tokenizers

from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize.protocol import CONFIG_NAME, Texts, as_bytes, check_unit, config_fingerprint, id_dtype

_Result = TypeVar("_Result")

# Spellings under which the specials are known, for files that stand without their tokenizer_config.json.
_USUAL_NAMES = {
    "bos_token": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>"),
    "eos_token": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "pad_token": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
}


class SubwordTokenizer:
    """A BPE, WordPiece or Unigram vocabulary from a ``tokenizer.json``.

    Args:
        model: the content of a ``tokenizer.json``.
        specials: the text of ``bos_token``, ``eos_token`` and ``pad_token``, each of which may be missing; they
            must be in the vocabulary.

    Raises:
        TokenizeError: the content is not a tokenizer that ``tokenizers`` can load, or lacks a named special.
    """

    def __init__(self, model: str | bytes, specials: dict[str, str] | None = None) -> None:
        content = _parsed(model)
        self._engine = _guarded(
            lambda: tokenizers.Tokenizer.from_str(json.dumps(content)), "not a tokenizer.json"
        )
        self._engine.no_truncation()
        self._engine.no_padding()
        self._engine.encode_special_tokens = True
        vocabulary: dict[str, int] = self._engine.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise TokenizeError("the tokenizer.json has an empty vocabulary")
        self._vocab_size = max(vocabulary.values()) + 1
        self._dtype = id_dtype(self._vocab_size)
        self._specials = dict(specials or {})
        for role, token in self._specials.items():
            if token not in vocabulary:
                raise TokenizeError(f"the {role} {token!r} is not in the vocabulary: name one that is")
        self._special_ids = {role: vocabulary[token] for role, token in self._specials.items()}
        reserved = _reserved_ids(content, vocabulary, self._specials)
        self._reserved = np.zeros(self._vocab_size, np.bool_)
        self._reserved[list(reserved)] = True

    @classmethod
    def load(cls, path: str | Path) -> SubwordTokenizer:
        """From a ``tokenizer.json``, or a folder that holds one.

        The specials come from the ``tersely_tokenizer.json`` or ``tokenizer_config.json`` beside it, else from
        the usual spellings among the file's own special tokens.
        """
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            model = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TokenizeError(f"{file} cannot be read as a tokenizer: {error}") from error
        try:
            return cls(model, _stored_specials(file.parent, model))
        except TokenizeError as error:
            raise TokenizeError(f"{file}: {error}") from error

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included."""
        return self._vocab_size

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
        content = json.loads(self._engine.to_str()) | {"post_processor": None}  # which is never used here
        return config_fingerprint(self._config(), json.dumps(content, sort_keys=True).encode())

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """A row of ids for each text, in the smallest unsigned dtype that holds the vocabulary.

        Raises:
            TokenizeError: a text is not UTF-8, or the library panics on it (``document`` is its index); or a
                special is asked for that the vocabulary lacks.
        """
        lead, trail = self._asked(bos, eos)
        return self._rows(self._encodings(texts), lead, trail)

    def _rows(self, encodings: list[Any], lead: list[int], trail: list[int]) -> Ragged:
        rows = [lead + encoding.ids + trail for encoding in encodings]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter(chain.from_iterable(rows), self._dtype, int(offsets[-1]))
        spelled = self._reserved[ids]
        if lead:
            spelled[offsets[:-1]] = False
        if trail:
            spelled[offsets[1:] - 1] = False
        if spelled.any():
            document = int(np.searchsorted(offsets, spelled.argmax(), "right")) - 1
            self._refuse_spelling(document, encodings[document])
        return Ragged(ids, offsets)

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each the half-open range of the text it came from, values ``(total, 2)`` int64.

        The ranges are those the library reports: where a normaliser changes the text they are as exact as it
        keeps them, and the tokens of one split character share the range of that character.
        """
        check_unit(unit)
        lead, trail = self._asked(bos, eos)
        documents = _as_text(texts)
        spans: list[np.ndarray[Any, Any]] = [np.empty((0, 2), np.int64)]
        encodings = self._encodings(texts)
        rows = self._rows(encodings, lead, trail)
        for text, encoding in zip(documents, encodings, strict=True):
            end = len(text)
            ranges = [(0, 0)] * len(lead) + encoding.offsets + [(end, end)] * len(trail)
            span = np.array(ranges, np.int64).reshape(-1, 2)
            spans.append(_byte_of_character(text)[span] if unit == "byte" else span)
        return rows, Ragged(np.concatenate(spans), rows.offsets)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The text of each row as UTF-8, special tokens left out, as the library's own decoder gives it."""
        rows: list[list[int]] = ids.to_numpy().to_list()
        texts: list[str] = self._engine.decode_batch(rows, skip_special_tokens=True)
        return [text.encode() for text in texts]

    def save(self, folder: str | Path) -> None:
        """Writes ``tokenizer.json`` and the specials into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self._engine.to_str(), encoding="utf-8")
        (folder / CONFIG_NAME).write_text(json.dumps(self._config(), indent=2) + "\n", encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        return {"type": "subword", **self._specials}

    def _asked(self, bos: bool, eos: bool) -> tuple[list[int], list[int]]:
        for asked, role in ((bos, "bos_token"), (eos, "eos_token")):
            if asked and role not in self._special_ids:
                raise TokenizeError(
                    f"the vocabulary names no {role}: load it with specials={{'{role}': ...}}"
                )
        lead = [self._special_ids["bos_token"]] if bos else []
        return lead, [self._special_ids["eos_token"]] if eos else []

    def _encodings(self, texts: Texts) -> list[Any]:
        documents = _as_text(texts)
        try:
            return self._encode_batch(documents)
        except TokenizeError:
            for index, text in enumerate(documents):  # the library does not say which one: find it
                try:
                    self._encode_batch([text])
                except TokenizeError as error:
                    raise TokenizeError(
                        f"document {index} of {len(text)} characters: {error}; leave it out or clean it",
                        index,
                    ) from error
            raise

    def _refuse_spelling(self, document: int, encoding: Any) -> NoReturn:
        place = next(i for i, token in enumerate(encoding.ids) if self._reserved[token])
        raise TokenizeError(
            f"document {document} spells the special token {encoding.tokens[place]!r} at character "
            f"{encoding.offsets[place][0]}, which this vocabulary cannot keep as text: change the spelling or leave the "
            "document out",
            document,
        )

    def _encode_batch(self, documents: list[str]) -> list[Any]:
        return _guarded(
            lambda: self._engine.encode_batch(documents, add_special_tokens=False),
            "the tokenizers library failed",
        )


def _guarded(call: Callable[[], _Result], what: str) -> _Result:
    """Runs ``call``, turning the library's errors into TokenizeError, panics too.

    A panic of its Rust code is a BaseException that ``except Exception`` misses; it can only be told by its name.
    """
    try:
        return call()
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise TokenizeError(f"{what} ({type(error).__name__}: {error})") from error
        raise


def _as_text(texts: Texts) -> list[str]:
    if isinstance(texts, str | bytes | Ragged):
        texts = [bytes(row) for row in as_bytes(texts)]
    documents: list[str] = []
    for index, text in enumerate(texts):
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


def _byte_of_character(text: str) -> np.ndarray[Any, Any]:
    """For each character of ``text``, and for its end, the UTF-8 byte it starts at."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    width = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(width)])


def _stored_specials(folder: Path, model: str) -> dict[str, str]:
    """The specials a saved tokenizer names, from the files beside it or by their usual spellings."""
    roles = tuple(_USUAL_NAMES)
    for name in (CONFIG_NAME, "tokenizer_config.json", "special_tokens_map.json"):
        named = {
            role: _token_text(token) for role, token in _read_json(folder / name).items() if role in roles
        }
        if named or (name == CONFIG_NAME and (folder / name).exists()):
            return {role: token for role, token in named.items() if token}
    present = {str(token["content"]) for token in _added_tokens(_parsed(model)) if token.get("special")}
    found = {
        role: next((name for name in names if name in present), "") for role, names in _USUAL_NAMES.items()
    }
    return {role: token for role, token in found.items() if token}


def _parsed(model: str | bytes) -> dict[str, Any]:
    """The content of a tokenizer.json, without the dropout that would make ids random."""
    try:
        content = json.loads(model)
    except (ValueError, RecursionError) as error:
        raise TokenizeError(f"not a tokenizer.json ({error})") from error
    if not isinstance(content, dict):
        raise TokenizeError("not a tokenizer.json (it is not an object)")
    if isinstance(content.get("model"), dict) and content["model"].get("dropout"):
        content["model"]["dropout"] = None
    return content


def _added_tokens(content: dict[str, Any]) -> list[dict[str, Any]]:
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(t, dict) and "content" in t for t in added):
        raise TokenizeError("not a tokenizer.json (its added_tokens are not a list of tokens)")
    return added


def _reserved_ids(content: dict[str, Any], vocabulary: dict[str, int], specials: dict[str, str]) -> set[int]:
    """The ids that no text may become: of special tokens, and of added ones that open or close documents or are
    spelled like those. Not of the unknown token, which text may rightly become, nor of ordinary words.
    """
    model = content.get("model") or {}
    unknown = {model.get("unk_token"), "<unk>", "[UNK]", "<|unk|>"}
    bounds = {specials.get("bos_token"), specials.get("eos_token")}
    bounds |= {*_USUAL_NAMES["bos_token"], *_USUAL_NAMES["eos_token"]}
    added = _added_tokens(content)
    reserved = {
        str(token["content"]) for token in added if token.get("special") or token["content"] in bounds
    } - unknown
    return {
        vocabulary[token]
        for token in reserved
        if token in vocabulary and vocabulary[token] != model.get("unk_id")
    }


def _token_text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizeError(f"{path} is not JSON: {error}") from error
    return content if isinstance(content, dict) else {}
