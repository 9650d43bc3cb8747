"""Decoding while ids still come: text as soon as its characters are whole."""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np

from tersely.ragged import Ragged
from tersely.tokenize.protocol import DecodesOn, Tokenizer

_CONTEXT = 4
"""So many ids before the new ones are decoded again with them, since decoders look at neighbours (a first space, ``##``)."""

_REPLACEMENT = "\ufffd".encode()


class StreamDecoder:
    r"""The text of one sequence of ids, given piece by piece.

    A character whose bytes are spread over several ids comes with the last of them, and bytes that are not UTF-8 come as
    U+FFFD. All pieces together are ``tok.decode`` of all ids, but for decoders that look ahead (``BPEDecoder``), of which
    no piece can be certain::

        decoder = StreamDecoder(tok)
        for new_ids in generation:
            print(decoder.push(new_ids), end="")
        print(decoder.finish())

    Cost: a few ids are decoded again with every push, however long the text grows.
    """

    def __init__(self, tok: Tokenizer) -> None:
        self._tok = tok
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._before: list[int] = []
        self._waiting: list[int] = []
        self._behind = b""  # what a tokenizer that decodes on needs to know of the text so far

    def push(self, ids: Any) -> str:
        """The text that the new ids (one, or a sequence, array or tensor of them) complete; often empty, never half a
        character.
        """
        if isinstance(self._tok, DecodesOn):
            text, self._behind = self._tok.decode_from(self._behind, np.atleast_1d(np.asarray(ids)))
            return self._text.decode(text)
        return "".join(map(self._push_one, np.atleast_1d(np.asarray(ids)).tolist()))

    def _push_one(self, number: int) -> str:
        known, whole = self._decode(self._before), self._decode([*self._before, *self._waiting, number])
        if known == whole and not self._decode([number] * 3):
            return ""  # left out by decoding: no context for others
        self._waiting.append(number)
        if whole.endswith(_REPLACEMENT) and len(self._waiting) < _CONTEXT:
            return ""  # perhaps half a character, of a decoder that gives text and not bytes
        return self._give(known, whole)

    def _give(self, known: bytes, whole: bytes) -> str:
        self._before, self._waiting = [*self._before, *self._waiting][-_CONTEXT:], []
        return self._text.decode(whole[_common(known, whole) :])

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that never became whole. The decoder then starts anew."""
        rest = self._give(self._decode(self._before), self._decode([*self._before, *self._waiting]))
        rest += self._text.decode(b"", final=True)
        self._text.reset()
        self._before, self._behind = [], b""
        return rest

    def _decode(self, ids: list[int]) -> bytes:
        return self._tok.decode(Ragged(np.array(ids, np.int64), [0, len(ids)]))[0]


def _common(known: bytes, whole: bytes) -> int:
    """How much of ``known`` stands at the start of ``whole``: all of it, but for decoders that take spaces back."""
    if whole.startswith(known):
        return len(known)
    pairs = zip(known, whole, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(known), len(whole)))
