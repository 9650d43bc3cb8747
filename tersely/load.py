"""``load_tokenizer``: from a name, a file or a folder to the tokenizer it stands for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tersely.errors import TokenizeError

if TYPE_CHECKING:
    from tersely.tokenize import Tokenizer

_FORMS = (
    "'bytes', 'bytes:PRESET', a tokenizer.json, a NAME.tiktoken, a SentencePiece .model, or a folder that holds a saved "
    "tokenizer"
)


def load_tokenizer(
    spec: str | Path, *, threads: int | None = None, allowed_specials: Sequence[str] | None = None
) -> Tokenizer:
    """The tokenizer that ``spec`` names.

    Args:
        spec: ``"bytes"`` (ByT5's layout) or ``"bytes:blt"`` / ``"bytes:hnet"`` / ``"bytes:evabyte"``; the path of a
            ``tokenizer.json``, a tiktoken rank file or a SentencePiece ``.model``; or a folder written by ``save``,
            ``save_pretrained`` or ``tersely prepare``.
        threads: how many threads encode, by default one for each processor; the ids do not depend on it.
        allowed_specials: special tokens of a subword vocabulary that text may spell; by default those it was saved with.

    Raises:
        TokenizeError: nothing of that name exists, or it cannot be loaded; the message says what is allowed.
    """
    from tersely.tokenize import ByteTokenizer, SubwordTokenizer, WordTokenizer
    from tersely.tokenize.protocol import CONFIG_NAME
    from tersely.tokenize.rwkv import is_rwkv
    from tersely.tokenize.wordpiece.rules import is_bert_json

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
    if path.is_file() or (path / "tokenizer.json").is_file() or (path / CONFIG_NAME).is_file():
        return SubwordTokenizer.load(path, threads=threads, allowed_specials=allowed_specials)
    raise TokenizeError(f"no tokenizer {str(spec)!r}: give {_FORMS}")


def _saved(folder: Path, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer in a folder written by ``save``."""
    from tersely.tokenize import ByteTokenizer, RwkvTokenizer, SubwordTokenizer, WordPieceTokenizer
    from tersely.tokenize.protocol import CONFIG_NAME

    kind = config.get("type")
    if kind == "bytes":
        return ByteTokenizer(config.get("preset", ""), config.get("sentinels", "transformers"))
    kinds = {"rwkv": RwkvTokenizer, "subword": SubwordTokenizer, "wordpiece": WordPieceTokenizer}
    if str(kind) not in kinds:
        raise TokenizeError(f"{folder / CONFIG_NAME} is of type {kind!r}, made by a newer tersely?")
    return kinds[str(kind)].load(folder)


def _config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizeError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise TokenizeError(f"{file} is not a saved tokenizer: it holds no object")
    return content
