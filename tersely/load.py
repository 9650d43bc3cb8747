"""``load_tokenizer``: from a name, a file or a folder to the tokenizer it stands for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tersely.errors import TokenizeError, UsageError

if TYPE_CHECKING:
    from tersely.tokenize import Tokenizer

FORMS = (
    "bytes, bytes:blt, bytes:hnet, bytes:evabyte, words, words:cl100k, words:space, words:unicode, kmer:6, kmer:6:rc, a "
    "tokenizer.json, NAME.tiktoken, SentencePiece's .model, BERT's vocab.txt, an RWKV vocabulary, or a folder with a saved "
    "tokenizer"
)
"""What ``load_tokenizer`` takes, for messages."""


def load_tokenizer(
    spec: str | Path,
    *,
    threads: int | None = None,
    allowed_specials: Sequence[str] | None = None,
    fast: bool = True,
) -> Tokenizer:
    """The tokenizer that ``spec`` names.

    Args:
        spec: ``"bytes"`` (ByT5's layout) or ``"bytes:PRESET"``; ``"words"`` (the rule of GPT-2) or ``"words:RULE"``;
            ``"kmer:6"``, with ``:rc`` for the other strand and ``:upper`` for one case; the path of a
            ``tokenizer.json``, a tiktoken rank file, a SentencePiece ``.model``, BERT's ``vocab.txt`` or an RWKV
            vocabulary; or a folder written by ``save``, ``save_pretrained`` or ``tersely prepare``. A
            ``tokenizer.json`` made of BERT's parts is run by ``WordPieceTokenizer``, any other by
            ``SubwordTokenizer``.
        threads: how many threads encode, by default one for each processor; the ids do not depend on it.
        allowed_specials: special tokens of a subword vocabulary that text may spell; by default those it was saved
            with.
        fast: whether an engine may stand in for a vocabulary's own library; the ids do not depend on it.

    Raises:
        TokenizeError: nothing of that name exists, or it cannot be loaded; the message says what is allowed.
        UsageError: special tokens are allowed for a kind that keeps all text as text.
    """
    from tersely.tokenize import SubwordTokenizer

    tok = _named(str(spec)) or _in_path(Path(spec), threads, allowed_specials, fast)
    if allowed_specials and not isinstance(tok, SubwordTokenizer):
        raise UsageError(
            f"{spec} finds no special tokens in text: allow them for subword vocabularies only "
            "(a tokenizer.json, NAME.tiktoken or .model)"
        )
    return tok


def _named(spec: str) -> Tokenizer | None:
    """The tokenizer that needs no file."""
    from tersely.tokenize import ByteTokenizer, KmerTokenizer, WordTokenizer

    name, _, option = spec.partition(":")
    if name == "bytes":
        return ByteTokenizer(option or "byt5")
    if name == "words":
        return WordTokenizer(option or "gpt2")
    return KmerTokenizer.from_spec(option) if name == "kmer" else None


def _in_path(
    path: Path, threads: int | None, allowed_specials: Sequence[str] | None, fast: bool
) -> Tokenizer:
    """The tokenizer in a file or a folder."""
    from tersely.tokenize import RwkvTokenizer, SubwordTokenizer, WordPieceTokenizer
    from tersely.tokenize.protocol import CONFIG_NAME
    from tersely.tokenize.rwkv import is_rwkv
    from tersely.tokenize.subword.files import PATTERNS
    from tersely.tokenize.wordpiece.rules import is_bert_json

    if path.is_dir() and (path / "tokenizer" / CONFIG_NAME).exists():
        path = path / "tokenizer"
    if path.is_dir() and (path / CONFIG_NAME).exists():
        return _saved(path, _config(path / CONFIG_NAME), threads, allowed_specials, fast)
    names = ("tokenizer.json", "vocab.txt", *PATTERNS)
    found = [file for name in names for file in sorted(path.glob(name))] if path.is_dir() else [path]
    file = found[0] if found else path
    if not file.is_file():
        raise TokenizeError(f"no tokenizer {str(path)!r}: give {FORMS}")
    if file.suffix == ".txt" and is_rwkv(file):
        return RwkvTokenizer.load(file, threads)
    if file.suffix == ".txt" or (file.suffix == ".json" and is_bert_json(file)):
        return WordPieceTokenizer.load(file, threads)
    return SubwordTokenizer.load(file, threads=threads, allowed_specials=allowed_specials, fast=fast)


def _saved(
    folder: Path,
    config: dict[str, Any],
    threads: int | None,
    allowed_specials: Sequence[str] | None,
    fast: bool,
) -> Tokenizer:
    """The tokenizer in a folder written by ``save``."""
    from tersely.tokenize import (
        ByteTokenizer,
        KmerTokenizer,
        RwkvTokenizer,
        SubwordTokenizer,
        WordPieceTokenizer,
        WordTokenizer,
    )
    from tersely.tokenize.protocol import CONFIG_NAME

    match config.get("type"):
        case "bytes":
            return ByteTokenizer(config.get("preset", ""), config.get("sentinels", "transformers"))
        case "words":
            return WordTokenizer(
                config.get("rule", ""), config.get("preset", ""), config.get("max_word_bytes")
            )
        case "kmer":
            return KmerTokenizer.from_config(config)
        case "rwkv":
            return RwkvTokenizer.load(folder, threads)
        case "wordpiece":
            return WordPieceTokenizer.load(folder, threads)
        case "equal-info":
            from tersely.compress import EqualInfoTokenizer  # late: it brings numba

            return EqualInfoTokenizer.load(folder, threads)
        case "subword":
            return SubwordTokenizer.load(
                folder, threads=threads, allowed_specials=allowed_specials, fast=fast
            )
        case kind:
            raise TokenizeError(f"{folder / CONFIG_NAME} is of type {kind!r}, made by a newer tersely?")


def _config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizeError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise TokenizeError(f"{file} is not a saved tokenizer: it holds no object")
    return content
