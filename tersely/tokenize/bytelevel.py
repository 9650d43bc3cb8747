"""The characters that stand for bytes in byte-level vocabularies (Radford et al. 2019, the released encoder)."""

from __future__ import annotations

_OWN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]


def byte_characters() -> list[str]:
    """For each byte its character: printable Latin-1 stands for itself, the others, in order, for U+0100 and on."""
    others = [byte for byte in range(256) if byte not in _OWN]
    return [chr(byte if byte in _OWN else 256 + others.index(byte)) for byte in range(256)]


_BYTE_OF = {character: byte for byte, character in enumerate(byte_characters())}


def bytes_of(token: str) -> bytes:
    """The bytes that a token of such characters stands for; of any other text its UTF-8."""
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode()
