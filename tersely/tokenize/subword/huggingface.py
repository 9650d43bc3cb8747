"""A Hugging Face ``tokenizer.json``, run by the ``tokenizers`` library.

What a stored file may do to a corpus is undone on loading: its truncation would cut documents, its padding would fill
them, its dropout would make ids random, and its special tokens would be found inside ordinary text. The last is done by
giving the engine a vocabulary in which they cannot be spelled; ids and names stay those of the file.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import tokenizers

from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize.batch import encode_in_threads
from tersely.tokenize.bytelevel import bytes_of
from tersely.tokenize.protocol import size_of_vocabulary
from tersely.tokenize.subword.cuts import cutter_of_json, encode_in_parts
from tersely.tokenize.subword.decoders import Decoder, decoder_kind, is_byte
from tersely.tokenize.subword.model import Span, TokenBytes, guarded, ragged_ids

# Spellings under which the specials are known, for files that stand without their tokenizer_config.json.
USUAL_NAMES = {
    "bos_token": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>"),
    "eos_token": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "pad_token": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
}
_SPACE = "\u2581"  # what stands for a space in vocabularies of SentencePiece's kind
_HIDDEN = "\uffff"  # no character, so no text has it
_MARKS = 8  # so many marks at most may have been composed with a letter
_AT_A_TIME = 1 << 20  # characters in one call of the library
_NOT_IDS = {"truncation", "padding", "post_processor"}  # of the file's parts, those that are never used here


class HuggingFaceModel:
    """The content of a ``tokenizer.json``.

    Args:
        model: the file's content.
        threads: how many encode at a time.
        allowed: special tokens that text may spell; they are found as the library finds them.

    Raises:
        TokenizeError: ``tokenizers`` cannot load it, its vocabulary is empty, or an allowed token is not special.
    """

    def __init__(self, model: str | bytes, threads: int, allowed: Collection[str] = ()) -> None:
        # Its own threads would make the library warn, or a program stand still, after a fork: ours do neither.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._content = {key: part for key, part in _parsed(model).items() if key not in _NOT_IDS}
        self._library = _engine(self._content)
        self._vocabulary: dict[str, int] = self._library.get_vocab(with_added_tokens=True)
        if not self._vocabulary:
            raise TokenizeError("the tokenizer.json has an empty vocabulary")
        self._vocab_size = size_of_vocabulary(self._vocabulary.values())
        _check_unique(self._content)
        self._threads = threads
        self._allowed = {token: self._vocabulary.get(token, -1) for token in allowed}
        for token in self._allowed:
            if token not in {added["content"] for added in _added(self._content)}:
                raise TokenizeError(f"the allowed special {token!r} is no added token of the vocabulary")
        self.plain_content = _without_specials(self._content, set(self._allowed))
        self._engine = _engine(self.plain_content)
        self._check_ids()
        self._cutter = cutter_of_json(self.plain_content, self._vocabulary, self._encode)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included."""
        return self._vocab_size

    @property
    def kind(self) -> str:
        """``BPE``, ``WordPiece``, ``Unigram`` or ``WordLevel``."""
        return _kind(self._content)

    @property
    def specials(self) -> Mapping[str, str]:
        """By the usual spellings among the file's own special tokens."""
        present = {str(token["content"]) for token in _added(self._content) if token.get("special")}
        found = {
            role: next((name for name in names if name in present), "") for role, names in USUAL_NAMES.items()
        }
        return {role: token for role, token in found.items() if token}

    @property
    def allowed(self) -> Mapping[str, int]:
        """The special tokens that text may spell."""
        return self._allowed

    @property
    def added(self) -> list[dict[str, Any]]:
        """The added tokens that text may spell, with their flags."""
        return [token for token in _added(self.plain_content) if not token["content"].startswith(_HIDDEN)]

    @property
    def hidden(self) -> list[dict[str, Any]]:
        """The added tokens that no text may spell, with their flags."""
        shown = {token["content"] for token in self.added}
        return [token for token in _added(self._content) if token["content"] not in shown]

    def _check_ids(self) -> None:
        """Hiding the specials must not have moved another token."""
        found = self._engine.get_vocab(with_added_tokens=True)
        moved = [token for token, number in found.items() if self._vocabulary.get(token, number) != number]
        if moved:
            raise TokenizeError(f"the ids of added tokens are not those that the file says ({moved[0]!r})")

    @property
    def identity(self) -> bytes:
        """The file without the parts that decide no ids, in one spelling."""
        return self._identity

    @cached_property
    def _identity(self) -> bytes:
        return json.dumps(self._content, sort_keys=True).encode()

    def token_id(self, token: str) -> int | None:
        """The id of a token by its spelling."""
        return self._vocabulary.get(token)

    def reserved(self, specials: Mapping[str, str]) -> set[int]:
        """The ids of special tokens, and of those that open or close documents or are spelled like it; not of the
        unknown token, which text may rightly become.
        """
        model = self._content.get("model") or {}
        unknown = {model.get("unk_token"), "<unk>", "[UNK]", "<|unk|>"}
        added = {token["content"] for token in _added(self._content)}
        spellings = _reserved_spellings(self._content) | (set(specials.values()) & added)
        ids = {self._vocabulary[token] for token in spellings - unknown if token in self._vocabulary}
        return ids - {model.get("unk_id")} - set(self._allowed.values())

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text, uint32."""
        return encode_in_parts(
            texts, self._cutter, lambda parts: encode_in_threads(self._encode, parts, self._threads)
        )

    def _encode(self, texts: list[str]) -> Ragged:
        # The library keeps some 100 bytes for a token until its row is read: so a few rows at a time.
        rows: list[Any] = []
        first = waiting = 0
        for place, text in enumerate(texts, 1):
            waiting += len(text)
            if waiting >= _AT_A_TIME or place == len(texts):
                rows.extend(self._rows(texts[first:place]))
                first, waiting = place, 0
        return ragged_ids(rows)

    def _rows(self, texts: list[str]) -> list[Any]:
        encodings = guarded(
            lambda: self._engine.encode_batch_fast(texts, add_special_tokens=False),
            "the tokenizers library failed",
        )
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]

    def splits(self, text: str) -> list[int]:
        """Where the pre-tokeniser splits a text, 0 among the places, in characters."""
        splitter: Any = self._engine.pre_tokenizer
        pieces = guarded(lambda: splitter.pre_tokenize_str(text), "the tokenizers library failed")
        return [start for _, (start, _) in pieces]

    def spans(self, text: str) -> list[Span]:
        """The library's alignment, every range of which is checked by normalising it again.

        Marks that a normaliser composed with the letter before are counted to its token; tokens of one character share
        its range; a space that was put before the text has an empty one.
        """
        encoding = guarded(
            lambda: self._engine.encode(text, add_special_tokens=False), "the tokenizers library failed"
        )
        if self._engine.normalizer is None:
            return list(encoding.offsets)
        unknown = self._unknown_ids
        spans = [
            span if number in unknown or is_byte(token) else self._checked(text, token, span)
            for number, token, span in zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
        ]
        if spans and not encoding.tokens[0].strip(_SPACE) and not text.startswith((" ", _SPACE)):
            spans[0] = (0, 0)
        return spans

    def _checked(self, text: str, token: str, span: Span) -> Span:
        """The range, wide enough to hold what the token was made of; raises TokenizeError if none around it is."""
        start, stop = span
        said = (bytes_of(token) if self._byte_level else token.replace(_SPACE, " ").encode()).strip()
        if not said:
            return (start, start) if text[start:stop].strip() else span
        if start == stop or said in text[start:stop].encode():
            return span
        for wider in range(stop, min(stop + _MARKS, len(text)) + 1):
            if wider > stop and not _is_mark(text[wider - 1]):
                break
            source = self._engine.normalizer.normalize_str(text[start:wider])
            if said in source.replace(_SPACE, " ").encode():
                return start, wider
        raise TokenizeError(
            f"the token {token!r} cannot be traced to its source through the normaliser "
            f"{self._content['normalizer']['type']}: characters {start} to {stop} are {text[start:stop]!r}"
        )

    def decode(self, rows: list[list[int]]) -> list[str]:
        """The text of each row as the library's decoder gives it, specials left out."""
        return self._library.decode_batch(rows, skip_special_tokens=True)

    def files(self) -> Mapping[str, bytes]:
        """The one file."""
        return {"tokenizer.json": json.dumps(self._content, ensure_ascii=False).encode()}

    def config(self) -> dict[str, str]:
        """The kind of file."""
        return {"format": "tokenizer.json"}

    @cached_property
    def _unknown_ids(self) -> set[int | None]:
        model = self._content.get("model") or {}
        return {self._vocabulary.get(model.get("unk_token") or ""), model.get("unk_id")}

    def pieces(self) -> TokenBytes | None:
        """The bytes of each id, for decoders that look at no neighbours."""
        kind = decoder_kind(self._content.get("decoder"))
        if kind is None:
            return None
        left_out = {token["content"] for token in _added(self._content) if token.get("special")}
        left_out -= set(self._allowed)
        added = {token["content"] for token in _added(self._content)}
        rows, firsts = [b""] * self._vocab_size, [b""] * self._vocab_size
        exact, single = np.zeros(self._vocab_size, np.bool_), np.zeros(self._vocab_size, np.bool_)
        for token, number in self._vocabulary.items():
            exact[number] = number not in self._unknown_ids and token not in left_out
            if token in left_out:
                continue
            if kind is Decoder.BYTE_LEVEL:
                rows[number] = token.encode() if token in added else bytes_of(token)
            elif kind is not Decoder.METASPACE and is_byte(token):
                rows[number], single[number] = bytes([int(token[3:5], 16)]), True
            else:
                rows[number] = token.replace(_SPACE, " ").encode()
                firsts[number] = token.replace(_SPACE, "").encode()
        at_start = Ragged.from_rows(firsts) if kind is Decoder.METASPACE and self._drops_first else None
        return TokenBytes(Ragged.from_rows(rows), exact, single, at_start, kind is Decoder.LLAMA)

    @property
    def _drops_first(self) -> bool:
        return self._content["decoder"].get("prepend_scheme", "always") != "never"

    @cached_property
    def _byte_level(self) -> bool:
        return decoder_kind(self._content.get("decoder")) is Decoder.BYTE_LEVEL


def _engine(content: dict[str, Any]) -> tokenizers.Tokenizer:
    engine = guarded(lambda: tokenizers.Tokenizer.from_str(json.dumps(content)), "not a tokenizer.json")
    engine.no_truncation()
    engine.no_padding()
    engine.encode_special_tokens = True
    return engine


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


def _kind(content: dict[str, Any]) -> str:
    """The type of the model, which old files do not name."""
    model = content.get("model") or {}
    untyped = (
        "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"
    )
    return model.get("type") or untyped


def _added(content: dict[str, Any]) -> list[dict[str, Any]]:
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(t, dict) and "content" in t for t in added):
        raise TokenizeError("not a tokenizer.json (its added_tokens are not a list of tokens)")
    return added


def _reserved_spellings(content: dict[str, Any]) -> set[str]:
    bounds = {*USUAL_NAMES["bos_token"], *USUAL_NAMES["eos_token"]}
    return {
        str(token["content"])
        for token in _added(content)
        if token.get("special") or token["content"] in bounds
    }


def _check_unique(content: dict[str, Any]) -> None:
    """Raises TokenizeError if two tokens of the model have one id: either could stand for it."""
    vocab = content.get("model", {}).get("vocab")
    tokens: dict[int, str] = {}
    for token, number in vocab.items() if isinstance(vocab, dict) else ():
        if tokens.setdefault(number, token) != token:
            raise TokenizeError(f"the tokens {tokens[number]!r} and {token!r} have the same id {number}")


def _without_specials(content: dict[str, Any], allowed: set[str]) -> dict[str, Any]:
    """The same rules, with no special token to find but those allowed.

    Specials, and Unigram pieces spelled like one, get a spelling that no text has (U+FFFF is no character). They stay in
    place, since the library numbers added tokens by their order; those that are in the model's vocabulary have their id
    from there, and are left out.
    """
    reserved = _reserved_spellings(content) - allowed
    model = dict(content.get("model") or {})
    pieces = model.get("vocab") or {}
    if _kind(content) == "Unigram":
        model["vocab"] = [
            [f"{_HIDDEN}{piece}" if piece in reserved else piece, score] for piece, score in pieces
        ]
        pieces = {piece for piece, _ in pieces}
    added: list[dict[str, Any]] = []
    for token in _added(content):
        if token["content"] not in reserved:
            added.append(token | {"special": False})
        elif token["content"] not in pieces:
            hidden = dict.fromkeys(("special", "lstrip", "rstrip", "single_word", "normalized"), False)
            added.append(token | hidden | {"content": _HIDDEN + token["content"]})
    return content | {"added_tokens": added, "model": model}


def _is_mark(character: str) -> bool:
    """Whether a composing normaliser may fold it into the character before: a mark, or a Hangul vowel or final."""
    return unicodedata.combining(character) != 0 or "\u1160" <= character <= "\u11ff"
