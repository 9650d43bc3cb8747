"""The decoders of a ``tokenizer.json`` under which an id stands for the same bytes wherever it is."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

_SPACE = "\u2581"
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Decoder(StrEnum):
    """The decoders that need to know no neighbours."""

    BYTE_LEVEL = "byte-level"
    LLAMA = "one space dropped"
    GEMMA = "no space dropped"
    METASPACE = "spaces of the first token dropped"


_REPLACE = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
_LLAMA = [
    _REPLACE,
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]


def decoder_kind(decoder: Any) -> Decoder | None:
    """Which of them the decoder of a ``tokenizer.json`` is; None for one that looks at neighbours, or is not known."""
    parts = decoder.get("decoders", [decoder]) if isinstance(decoder, dict) else []
    if parts == _LLAMA:
        return Decoder.LLAMA
    if parts == _LLAMA[:3]:
        return Decoder.GEMMA
    kinds = [part["type"] for part in parts]
    if kinds == ["Metaspace"] and decoder.get("replacement") == _SPACE:
        return Decoder.METASPACE
    return Decoder.BYTE_LEVEL if kinds == ["ByteLevel"] else None


def is_byte(token: str) -> bool:
    """Whether a token is that of a byte, ``<0x0A>``, in a vocabulary with byte fallback."""
    return _BYTE.fullmatch(token) is not None
