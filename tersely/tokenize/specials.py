"""Special tokens by their spelling, for text that may spell them: the text of a chat template, not what people wrote.

``encode`` keeps all text as text. Who knows that a stretch of it is to be trusted finds the tokens in it with
``special_tokens``, and encodes what follows one with ``after_special``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tersely.tokenize.protocol import Tokenizer
from tersely.tokenize.subword import SubwordTokenizer
from tersely.tokenize.subword.huggingface import HuggingFaceModel
from tersely.tokenize.subword.sentencepiece_model import SentencePieceModel
from tersely.tokenize.subword.tiktoken_ranks import TiktokenModel
from tersely.tokenize.wordpiece import WordPieceTokenizer


@dataclass(frozen=True, kw_only=True)
class SpecialToken:
    """An id that ``encode`` gives to no text.

    Attributes:
        spelling: how trusted text spells it.
        id: its id.
        lstrip: whether it takes in the blanks before it.
        rstrip: whether it takes in the blanks after it.
        single_word: whether it is found only where no letter, digit or ``_`` touches it.
    """

    spelling: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


def special_tokens(tok: Tokenizer) -> list[SpecialToken]:
    """The special tokens that have a spelling, those apart that text may spell; none for bytes, words, k-mers and RWKV."""
    if isinstance(tok, WordPieceTokenizer):
        found = tok.special_ids
    elif not isinstance(tok, SubwordTokenizer):
        found = {}
    elif isinstance(tok.model, HuggingFaceModel):
        return _of_json(tok.model, {tok.bos_id, tok.eos_id, tok.pad_id})
    elif isinstance(tok.model, TiktokenModel):
        allowed = tok.model.allowed
        found = {token: i for token, i in tok.model.encoding.specials.items() if token not in allowed}
    elif isinstance(tok.model, SentencePieceModel):
        found = tok.model.control_ids
    else:
        found = {}
    return [SpecialToken(spelling=token, id=number) for token, number in found.items() if token]


def _of_json(model: HuggingFaceModel, named: set[int | None]) -> list[SpecialToken]:
    """The hidden tokens, and those that open and close documents though the file does not call them special."""
    tokens = [
        *model.hidden,
        *(token for token in model.added if model.token_id(token["content"]) in named - {None}),
    ]
    flags = ("lstrip", "rstrip", "single_word")
    return [
        SpecialToken(spelling=spelling, id=number, **{flag: bool(token.get(flag)) for flag in flags})
        for token in tokens
        if (spelling := str(token["content"]))
        and (number := model.token_id(spelling)) is not None
        and spelling not in model.allowed
    ]


def after_special(tok: Tokenizer) -> Tokenizer:
    """The tokenizer of text that follows a special token in a document.

    It is ``tok`` itself but for a ``tokenizer.json`` that puts a space before the first word of a document alone
    (``Metaspace`` with the scheme ``first``): there it is one that puts none. Costs a loading of the vocabulary.
    """
    if not isinstance(tok, SubwordTokenizer) or not isinstance(tok.model, HuggingFaceModel):
        return tok
    content = json.loads(tok.model.files()["tokenizer.json"])
    first = [part for part in _parts(content.get("pre_tokenizer")) if part.get("prepend_scheme") == "first"]
    for part in first:
        part["prepend_scheme"] = "never"
    return tok.with_model(json.dumps(content)) if first else tok


def _parts(splitter: Any) -> list[dict[str, Any]]:
    """The parts that a pre-tokeniser is made of."""
    if not isinstance(splitter, dict):
        return []
    inner = splitter.get("pretokenizers", []) if splitter.get("type") == "Sequence" else []
    return [splitter, *(part for parts in inner for part in _parts(parts))]
