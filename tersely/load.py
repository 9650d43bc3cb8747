"""``load_tokenizer``: from a name, a file or a folder to the tokenizer it stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tersely.errors import TokenizeError

if TYPE_CHECKING:
    from tersely.tokenize import Tokenizer

_FORMS = "'bytes', 'bytes:PRESET', 'words', 'words:RULE', a tokenizer.json, or a folder that holds a saved tokenizer"


def load_tokenizer(spec: str | Path) -> Tokenizer:
    """The tokenizer that ``spec`` names.

    Args:
        spec: ``"bytes"`` (ByT5's layout) or ``"bytes:blt"`` / ``"bytes:hnet"`` / ``"bytes:evabyte"``;
            ``"words"`` (the rule of GPT-2) or ``"words:cl100k"`` / ``"words:space"`` / ``"words:unicode"``; the path
            of a ``tokenizer.json``; or a folder written by ``save``, ``save_pretrained`` or ``tersely prepare``.

    Raises:
        TokenizeError: nothing of that name exists, or it cannot be loaded; the message says what is allowed.
    """
    from tersely.tokenize import ByteTokenizer, SubwordTokenizer, WordTokenizer
    from tersely.tokenize.protocol import CONFIG_NAME

    name, _, option = str(spec).partition(":")
    if name == "bytes":
        return ByteTokenizer(option or "byt5")
    if name == "words":
        return WordTokenizer(option or "gpt2")
    path = Path(spec)
    if path.is_dir() and (path / "tokenizer" / CONFIG_NAME).exists():
        path = path / "tokenizer"
    if path.is_dir() and (path / CONFIG_NAME).exists():
        config = _config(path / CONFIG_NAME)
        if config.get("type") == "bytes":
            return ByteTokenizer(config.get("preset", ""), config.get("sentinels", "transformers"))
        if config.get("type") == "words":
            return WordTokenizer(
                config.get("rule", ""), config.get("preset", ""), config.get("max_word_bytes")
            )
        if config.get("type") != "subword":
            raise TokenizeError(
                f"{path / CONFIG_NAME} is of type {config.get('type')!r}, made by a newer tersely?"
            )
    if path.is_file() or (path / "tokenizer.json").is_file():
        return SubwordTokenizer.load(path)
    raise TokenizeError(f"no tokenizer {str(spec)!r}: give {_FORMS}")


def _config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizeError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise TokenizeError(f"{file} is not a saved tokenizer: it holds no object")
    return content
