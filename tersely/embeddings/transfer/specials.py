"""The special tokens of the swapped model: which there are, where they stand, and which old rows they take.

A model leans on the special tokens that it was trained with (some attend to bos from everywhere), so by default the new
tokenizer is given those of the old one, with their parts, the template that puts them around a text, and the chat template.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from tersely.embeddings.transfer.vocabulary import ByteView, backend

PARTS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The parts a special token may take."""

_SETTINGS = ("chat_template", "model_max_length", "padding_side", "truncation_side", "model_input_names")
_CHAT_TOKEN = re.compile(r"<[^<>\s{}'\"]{1,40}>|\[/?[A-Z_]{2,20}\]")


class SpecialTokens(StrEnum):
    """Whose special tokens the swapped model has."""

    KEEP = "keep"
    """Those of the model; the new tokenizer gets what it lacks."""
    MAP = "map"
    """Those of the new tokenizer, each with the row of the model's token that has the same spelling or part."""


def tokenizer_to_use(source: Any, target: Any, special_tokens: SpecialTokens) -> PreTrainedTokenizerFast:
    """The target tokenizer with the special tokens that the model will have; ordinary ids are those of the target.

    Args:
        source: the model's fast tokenizer, of transformers.
        target: a fast tokenizer of transformers, or a ``tokenizers.Tokenizer``.
        special_tokens: whose special tokens.
    """
    library = Tokenizer.from_str(backend(target).to_str())
    library.no_truncation()
    library.no_padding()
    owner = source if special_tokens is SpecialTokens.KEEP else target
    if special_tokens is SpecialTokens.KEEP:
        library.add_special_tokens([token for token in source.added_tokens_decoder.values() if token.special])
        template = _template(source, library)
        library.post_processor = template  # pyright: ignore[reportAttributeAccessIssue]
    settings = {name: getattr(owner, name) for name in _SETTINGS if getattr(owner, name, None) is not None}
    return PreTrainedTokenizerFast(tokenizer_object=library, **parts_of(owner), **settings)


def parts_of(tokenizer: Any) -> dict[str, str]:
    """The special token for each part that has one."""
    return {part: str(token) for part in PARTS if (token := getattr(tokenizer, part, None))}


def special_rows(source: Any, target: Any, used: Any, old: ByteView, new: ByteView) -> dict[int, int]:
    """For special tokens of the tokenizer in use the old ids of their rows: the same spelling, else the same part."""
    ids = {spelling: number for number, spelling in enumerate(old.spellings) if old.special[number]}
    had = {part: ids[token] for part, token in parts_of(source).items() if token in ids}
    takes = {
        token: had[part] for owner in (used, target) for part, token in parts_of(owner).items() if part in had
    }
    wanted = [(number, new.spellings[number]) for number in range(len(new)) if new.special[number]]
    found = {number: ids.get(spelling, takes.get(spelling, -1)) for number, spelling in wanted if spelling}
    return {number: row for number, row in found.items() if row >= 0}


def split_chat_tokens(source: Any, used: Any) -> list[str]:
    """Tokens of the chat template that were one id and are several now."""
    template = used.chat_template
    texts = template.values() if isinstance(template, dict) else [template or ""]
    spelled = {token for text in texts for token in _CHAT_TOKEN.findall(str(text))}
    return sorted(token for token in spelled if _length(source, token) == 1 < _length(used, token))


def _length(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _template(source: Any, library: Tokenizer) -> TemplateProcessing | None:
    """What the source puts around one text and around two, as a step of ``tokenizers``; None if it puts nothing."""
    texts = ["a", "b"]
    bare = [source(text, add_special_tokens=False)["input_ids"] for text in texts]
    single = _around(source, source(texts[0], return_token_type_ids=True), bare[:1])
    if len(single) == 1:
        return None
    pair = _around(source, source(*texts, return_token_type_ids=True), bare)
    spelled = {piece.rpartition(":")[0] for piece in single + pair if piece[0] != "$"}
    ids = [(token, library.token_to_id(token)) for token in sorted(spelled)]
    return TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _around(source: Any, encoded: Any, bare: list[list[int]]) -> list[str]:
    """The ids of texts, each a ``$A``, among the special tokens around them, with their token types."""
    ids: list[int] = list(encoded["input_ids"])
    types: list[int] = list(encoded.get("token_type_ids") or [0] * len(ids))
    found, place = list[str](), 0
    for name, text in zip("AB", bare, strict=False):
        start = next(at for at in range(place, len(ids)) if ids[at : at + len(text)] == text)
        found += [_spelled(source, ids[at], types[at]) for at in range(place, start)]
        found.append(f"${name}:{types[start]}")
        place = start + len(text)
    return found + [_spelled(source, ids[at], types[at]) for at in range(place, len(ids))]


def _spelled(source: Any, number: int, kind: int) -> str:
    return f"{source.convert_ids_to_tokens(number)}:{kind}"
