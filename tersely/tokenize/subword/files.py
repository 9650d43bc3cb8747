"""From a file or a folder to the vocabulary and its specials."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tersely.errors import TokenizeError
from tersely.tokenize.protocol import CONFIG_NAME
from tersely.tokenize.subword.huggingface import USUAL_NAMES, HuggingFaceModel
from tersely.tokenize.subword.model import SubwordModel
from tersely.tokenize.subword.sentencepiece_model import SentencePieceModel
from tersely.tokenize.subword.tiktoken_ranks import Encoding, TiktokenModel

PATTERNS = ("tokenizer.json", "*.tiktoken", "*.model", "*.model.v*")
"""How the files are called, for folders that hold one."""


def read_model(file: Path, stored: dict[str, Any], threads: int, allowed: Collection[str]) -> SubwordModel:
    """The vocabulary in ``file``, told by its ending; ``stored`` is the configuration that ``save`` wrote beside it.

    Raises:
        TokenizeError: it cannot be read, or holds something else.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise TokenizeError(f"it cannot be read: {error.strerror}") from error
    if file.suffix == ".tiktoken":
        known = (
            Encoding(pattern=stored["pattern"], specials=stored["special_ids"])
            if "pattern" in stored
            else None
        )
        return TiktokenModel(content, stored.get("name", file.stem), threads, known, allowed)
    if ".model" in file.suffixes:  # also tokenizer.model.v3
        if allowed:
            raise TokenizeError(
                "sentencepiece finds control pieces in no text: leave the allowed specials out"
            )
        return SentencePieceModel(content, threads)
    try:
        return HuggingFaceModel(content.decode("utf-8-sig"), threads, allowed)
    except UnicodeDecodeError as error:
        raise TokenizeError(f"not a tokenizer.json ({error})") from error


def file_in(folder: Path, stored: dict[str, Any]) -> Path:
    """The vocabulary's file in a folder: the one that ``stored`` speaks of, else the one there is."""
    names = {"tiktoken": f"{stored.get('name')}.tiktoken", "sentencepiece": "sentencepiece.model"}
    if stored.get("format") in names:
        return folder / names[stored["format"]]
    found = [file for pattern in PATTERNS for file in sorted(folder.glob(pattern))]
    return found[0] if found else folder / PATTERNS[0]


def stored_specials(folder: Path) -> dict[str, str] | None:
    """The specials a saved tokenizer names in the files beside it; None where none says anything."""
    for name in (CONFIG_NAME, "tokenizer_config.json", "special_tokens_map.json"):
        named = {
            role: _token_text(token)
            for role, token in read_json(folder / name).items()
            if role in USUAL_NAMES
        }
        if named or (name == CONFIG_NAME and (folder / name).exists()):
            return {role: token for role, token in named.items() if token}
    return None


def _token_text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is none."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizeError(f"{path} is not JSON: {error}") from error
    return content if isinstance(content, dict) else {}
