"""Long documents in parts: where a text can be cut so that its ids are those of the parts, one after another.

A library that keeps 100 bytes for each token of a document needs 2 GB for one of 20 MB, and one thread does it all. A cut at
"letter, space, letter" is exact if

- no piece of the vocabulary has a space after a letter, so that no merge and no path goes across;
- the normaliser and the pre-tokeniser are among those that look at no more than neighbouring characters there;
- no added token is cut, touches a cut, or takes spaces from its neighbours.

All three are read off the file, and what is left (where the space goes) is tried on a text. A vocabulary that is not known to
fulfil them is not cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from string import ascii_letters
from typing import Any

from tersely.errors import TokenizeError
from tersely.ragged import Ragged

PART = 1 << 18
"""Characters of a part, at least."""

_CUT = re.compile("[A-Za-z] (?=[A-Za-z])")
_SPANNING = re.compile("[A-Za-z](?:\u0120|\u2581| )")
_SPACE = "\u2581"
_TRIAL = (
    "The quick Brown fox isn't here; it's HE who'll say so. I am x = f(a, b) at 10 km or 3rd place\n next line of a text "
    "with caf\u00e9 au lait  two spaces and a tab\there s t r e d ll ve m the end of the story a b c d"
)
_NORMALISERS = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Precompiled", "BertNormalizer"}
_SPLITTERS = {"ByteLevel", "WhitespaceSplit", "Whitespace", "BertPreTokenizer", "Punctuation", "Digits"}
_CONTRACTIONS = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'s|'t|'re|'ve|'m|'ll|'d", "'(?i:[sdmt]|ll|ve|re)")
_REST = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)
_PATTERNS = {f"{first}|{rest}" for first in _CONTRACTIONS for rest in _REST}
"""The published patterns that end a word of letters before a space: GPT-2, cl100k, Llama 3, Qwen 2."""


class Cutter:
    """Cuts long texts between words.

    Args:
        keeps_space: whether the space between the words stays at the front of the second part; else it falls away, since
            the vocabulary puts one before every text.
    """

    def __init__(self, keeps_space: bool) -> None:
        self._keeps_space = keeps_space

    def cut(self, text: str, part: int) -> list[str]:
        """Parts of at least ``part`` characters; a text without a place to cut stays whole."""
        parts: list[str] = []
        start = 0
        while len(text) - start > 2 * part and (found := _CUT.search(text, start + part)):
            parts.append(text[start : found.start() + 1])
            start = found.start() + 1 if self._keeps_space else found.end()
        return [*parts, text[start:]]


def cutter_of_json(
    content: dict[str, Any], vocabulary: Collection[str], encode: Callable[[list[str]], Ragged]
) -> Cutter | None:
    """The cutter that is exact for a ``tokenizer.json`` of this content and vocabulary, or None if none is known to be."""
    model = content.get("model") or {}
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    apart = bool(model.get("byte_fallback")) or _splits_at_spaces(content)
    if not (_is_local(content) and _touches_no_added_token(content) and _spans_no_words(vocabulary, apart)):
        return None
    return _tried(encode)


def cutter_of_pieces(
    vocabulary: Collection[str], byte_fallback: bool, encode: Callable[[list[str]], Ragged]
) -> Cutter | None:
    """The same for a SentencePiece model, whose normalisers are all local."""
    return _tried(encode) if _spans_no_words(vocabulary, byte_fallback) else None


def _tried(encode: Callable[[list[str]], Ragged]) -> Cutter | None:
    """The cutter that puts the space where this vocabulary needs it."""
    try:
        whole = encode([_TRIAL]).values.tolist()
    except TokenizeError:
        return None  # a vocabulary that cannot encode any text
    for cutter in (Cutter(keeps_space=True), Cutter(keeps_space=False)):
        if all(encode(cutter.cut(_TRIAL, size)).values.tolist() == whole for size in (1, 7, 20)):
            return cutter
    return None


def encode_in_parts(texts: list[str], cutter: Cutter | None, encode: Callable[[list[str]], Ragged]) -> Ragged:
    """``encode(texts)``, the long ones of which are cut."""
    if cutter is None or all(len(text) <= 2 * PART for text in texts):
        return encode(texts)
    parts = [cutter.cut(text, PART) for text in texts]
    bounds = [0]
    for pieces in parts:
        bounds.append(bounds[-1] + len(pieces))
    rows = encode([piece for pieces in parts for piece in pieces])
    return Ragged(rows.values, rows.offsets[bounds])


def _spans_no_words(vocabulary: Collection[str], letters_known: bool) -> bool:
    """Whether no piece goes across a cut, and no unknown letter becomes one id with an unknown space."""
    known = letters_known or set(ascii_letters) <= set(vocabulary)
    return known and not any(map(_SPANNING.search, vocabulary))


def _touches_no_added_token(content: dict[str, Any]) -> bool:
    for token in content.get("added_tokens") or []:
        text = token["content"]
        if any(token.get(flag) for flag in ("lstrip", "rstrip", "single_word")) or text.split() != [text]:
            return False
        if text[0] in ascii_letters or text[-1] in ascii_letters or _SPACE in text:
            return False
    return True


def _splits_at_spaces(content: dict[str, Any]) -> bool:
    """Whether the model never sees a space after a letter."""
    splitters = _parts(content.get("pre_tokenizer"), "pretokenizers")
    off = {"ByteLevel": "use_regex", "Metaspace": "split"}
    return any(
        part["type"] not in ("Punctuation", "Digits") and part.get(off.get(part["type"], ""), True)
        for part in splitters
    )


def _is_local(content: dict[str, Any]) -> bool:
    """Whether the rules are among those that see no further than the space at a cut."""
    normalisers = _parts(content.get("normalizer"), "normalizers")
    splitters = _parts(content.get("pre_tokenizer"), "pretokenizers")
    return all(map(_is_local_normaliser, normalisers)) and all(map(_is_local_splitter, splitters))


def _is_local_normaliser(part: dict[str, Any]) -> bool:
    if part["type"] == "Prepend":
        return part.get("prepend") == _SPACE
    if part["type"] == "Replace":
        return part.get("pattern") == {"String": " "} and part.get("content") == _SPACE
    return part["type"] in _NORMALISERS


def _is_local_splitter(part: dict[str, Any]) -> bool:
    if part["type"] == "Metaspace":
        return part.get("replacement") == _SPACE
    if part["type"] == "Split":
        pattern = part.get("pattern") or {}
        return pattern.get("Regex") in _PATTERNS and not part.get("invert")
    return part["type"] in _SPLITTERS


def _parts(part: Any, name: str) -> Iterator[dict[str, Any]]:
    """What a sequence of rules is made of, or the rule itself."""
    if isinstance(part, dict) and part.get("type") == "Sequence":
        for inner in part[name]:
            yield from _parts(inner, name)
    elif part is not None:
        yield part
