"""``load_tokenizer``: from a name, a file or a folder to the tokenizer it stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tersely.errors import TokenizeError

if TYPE_CHECKING:
    from tersely.tokenize import Tokenizer

_FORMS = "'bytes', 'bytes:PRESET', a tokenizer.json, a vocab.txt, or a folder that holds a saved tokenizer"


def load_tokenizer(spec: str | Path) -> Tokenizer:
    """The tokenizer that ``spec`` names.

    Args:
        spec: ``"bytes"`` (ByT5's layout) or ``"bytes:blt"`` / ``"bytes:hnet"`` / ``"bytes:evabyte"``; the path of a
            ``tokenizer.json``, of BERT's ``vocab.txt`` or of an RWKV vocabulary; or a folder written by ``save``,
            ``save_pretrained`` or ``tersely prepare``. A ``tokenizer.json`` made of BERT's parts is run by
            ``WordPieceTokenizer``, any other by ``SubwordTokenizer``.

    Raises:
        TokenizeError: nothing of that name exists, or it cannot be loaded; the message says what is allowed.
    """
    from tersely.tokenize import ByteTokenizer, RwkvTokenizer, SubwordTokenizer, WordPieceTokenizer
    from tersely.tokenize.protocol import CONFIG_NAME
    from tersely.tokenize.rwkv import is_rwkv
    from tersely.tokenize.wordpiece.rules import is_bert_json

    name, _, option = str(spec).partition(":")
    if name == "bytes":
        return ByteTokenizer(option or "byt5")
    path = Path(spec)
    if path.is_dir() and (path / "tokenizer" / CONFIG_NAME).exists():
        path = path / "tokenizer"
    if path.is_dir() and (path / CONFIG_NAME).exists():
        return _saved(path, _config(path / CONFIG_NAME))
    if path.is_file() and path.suffix == ".txt" and is_rwkv(path):
        return RwkvTokenizer.load(path)
    model = path if path.is_file() else path / "tokenizer.json"
    if not model.is_file():
        model = path / "vocab.txt"
    if (model.suffix == ".txt" and model.is_file()) or is_bert_json(model):
        return WordPieceTokenizer.load(model)
    if model.is_file():
        return SubwordTokenizer.load(model)
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
