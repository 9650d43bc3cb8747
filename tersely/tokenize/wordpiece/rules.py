"""What a WordPiece vocabulary file says: its pieces, its special tokens, and what is done to text first.

Read are BERT's ``vocab.txt``, one piece a line, with a ``tokenizer_config.json`` beside it if there is one; and a
``tokenizer.json`` of which model, normaliser and splitter are those of BERT.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from tersely.errors import TokenizeError
from tersely.tokenize.protocol import CONFIG_NAME

ROLES = {
    "bos_token": "cls_token",
    "eos_token": "sep_token",
    "pad_token": "pad_token",
    "mask_token": "mask_token",
}
"""The roles of special tokens here, and what BERT's files call them."""

_SPELLINGS = {"bos_token": "[CLS]", "eos_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}

# What Rust's trim_end takes away, and with it the library that these files are made for.
_BLANKS = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


@dataclass(frozen=True, kw_only=True)
class WordPieceRules:
    """What is done to text before it is matched, as in ``tokenizers.normalizers.BertNormalizer``.

    Attributes:
        lowercase: make letters small.
        strip_accents: decompose characters and leave combining marks out; None: if ``lowercase``.
        handle_chinese_chars: make a word of each CJK ideograph.
        clean_text: leave control characters, NUL and U+FFFD out.
        unknown: the token that stands for a word no pieces cover.
        prefix: how pieces inside a word begin.
        max_word_characters: longer words are unknown.
        cleanup: when decoding, join punctuation and English contractions to the word before.
    """

    lowercase: bool = True
    strip_accents: bool | None = None
    handle_chinese_chars: bool = True
    clean_text: bool = True
    unknown: str = "[UNK]"
    prefix: str = "##"
    max_word_characters: int = 100
    cleanup: bool = True


@dataclass(frozen=True, kw_only=True)
class WordPieceFile:
    """The content of a vocabulary file.

    Attributes:
        pieces: the id of each piece, special tokens among them.
        rules: what is done to text.
        roles: the spelling of ``bos_token``, ``eos_token``, ``pad_token`` and ``mask_token``, as far as there are.
        others: special tokens without such a role.
    """

    pieces: dict[str, int]
    rules: WordPieceRules
    roles: dict[str, str] = field(default_factory=dict[str, str])
    others: frozenset[str] = frozenset()


def read_wordpiece(path: Path) -> WordPieceFile:
    """From a ``vocab.txt``, a ``tokenizer.json``, or a folder that holds one (the latter first).

    Raises:
        TokenizeError: it cannot be read, or is not of BERT's kind; the message names the file.
    """
    file = path
    if path.is_dir():
        file = path / ("tokenizer.json" if (path / "tokenizer.json").exists() else "vocab.txt")
    try:
        content = file.read_bytes().decode()
        return _of_json(content, file.parent) if file.suffix == ".json" else _of_text(content, file.parent)
    except (OSError, UnicodeDecodeError, TokenizeError) as error:
        raise TokenizeError(f"{file} cannot be read as a WordPiece vocabulary: {error}") from None


def is_bert_json(file: Path) -> bool:
    """Whether ``file`` is a ``tokenizer.json`` that ``read_wordpiece`` takes."""
    try:
        read_wordpiece(file)
    except TokenizeError:
        return False
    return True


def _of_text(content: str, folder: Path) -> WordPieceFile:
    lines = content.removesuffix("\n").split("\n")
    pieces = {line.rstrip(_BLANKS): number for number, line in enumerate(lines)}
    config = _beside(folder, "tokenizer_config.json")
    lowercase = config.get("do_lower_case")
    rules = WordPieceRules(
        lowercase=_is_uncased(pieces) if lowercase is None else bool(lowercase),
        strip_accents=None if config.get("strip_accents") is None else bool(config["strip_accents"]),
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
        unknown=_spelling(config.get("unk_token")) or "[UNK]",
    )
    return WordPieceFile(pieces=pieces, rules=rules, roles=_roles(folder, pieces))


def _is_uncased(pieces: dict[str, int]) -> bool:
    """Whether no piece has a capital letter, but for those in brackets, such as ``[CLS]``."""
    return all(piece.startswith("[") or piece == piece.lower() for piece in pieces)


def _of_json(content: str, folder: Path) -> WordPieceFile:
    stored = _bert_json(content)
    model, normalizer, tokens = stored["model"], stored["normalizer"], stored.get("added_tokens") or []
    plain = [token["content"] for token in tokens if not token["special"]]
    if plain:
        raise TokenizeError(f"the added token {plain[0]!r} is to be found inside text: use SubwordTokenizer")
    rules = WordPieceRules(
        lowercase=normalizer["lowercase"],
        strip_accents=normalizer.get("strip_accents"),  # the one field that the library does without
        handle_chinese_chars=normalizer["handle_chinese_chars"],
        clean_text=normalizer["clean_text"],
        unknown=model["unk_token"],
        prefix=model["continuing_subword_prefix"],
        max_word_characters=model["max_input_chars_per_word"],
        cleanup=bool((stored.get("decoder") or {}).get("cleanup", True)),
    )
    added = {token["content"]: token["id"] for token in tokens}
    pieces: dict[str, int] = model["vocab"] | added
    roles = _roles(folder, pieces)
    others = frozenset(added) - {*roles.values(), rules.unknown}
    return WordPieceFile(pieces=pieces, rules=rules, roles=roles, others=others)


def _bert_json(content: str) -> dict[str, Any]:
    """A ``tokenizer.json``, checked to be of BERT's parts, and by the library to be sound."""
    try:
        stored: dict[str, Any] = json.loads(content)
        kinds = tuple(str(stored[part]["type"]) for part in ("model", "normalizer", "pre_tokenizer"))
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise TokenizeError(
            f"it is not a tokenizer.json of BERT's kind ({type(error).__name__}: {error})"
        ) from None
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        raise TokenizeError(f"it is made of {', '.join(kinds)}, not of BERT's parts: use SubwordTokenizer")
    try:
        tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing narrower
        raise TokenizeError(f"it is not a tokenizer.json ({error})") from None
    return stored


def _roles(folder: Path, pieces: dict[str, int]) -> dict[str, str]:
    """The special tokens that the files in ``folder`` name, else those of BERT's spelling that are there."""
    saved = _beside(folder, CONFIG_NAME)
    if saved.get("type") == "wordpiece":
        return {role: str(saved[role]) for role in ROLES if role in saved}
    config = _beside(folder, "tokenizer_config.json")
    named = {role: _spelling(config.get(theirs)) for role, theirs in ROLES.items() if theirs in config}
    usual = {role: spelling for role, spelling in _SPELLINGS.items() if spelling in pieces}
    return {role: token for role, token in (usual | named).items() if token}


def _spelling(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _beside(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizeError(f"{folder / name} beside it is not JSON: {error}") from None
    return content if isinstance(content, dict) else {}
