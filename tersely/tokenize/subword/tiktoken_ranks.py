"""A tiktoken rank file (base64 token, space, rank on every line), run by the ``tiktoken`` library.

The file holds no pattern and no special tokens: for the published vocabularies both are known by its name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize.batch import encode_in_threads
from tersely.tokenize.protocol import size_of_vocabulary
from tersely.tokenize.subword.model import Span, TokenBytes, guarded, ragged_ids

_R50K = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SUFFIX}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What a rank file does not say: the pattern that splits text, and the special tokens with their ids."""

    pattern: str
    specials: Mapping[str, int]


_FILL = {"<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}
ENCODINGS = {
    "r50k_base": Encoding(pattern=_R50K, specials={"<|endoftext|>": 50256}),
    "p50k_base": Encoding(pattern=_R50K, specials={"<|endoftext|>": 50256}),
    "cl100k_base": Encoding(
        pattern=_CL100K, specials={"<|endoftext|>": 100257, **_FILL, "<|endofprompt|>": 100276}
    ),
    "o200k_base": Encoding(pattern=_O200K, specials={"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
}


class TiktokenModel:
    """A rank file.

    Args:
        ranks: the file's content.
        name: one of ``ENCODINGS``, or any name if ``encoding`` is given.
        threads: how many encode at a time.
        encoding: the pattern and the specials of a vocabulary that is not among the known.
        allowed: special tokens that text may spell.

    Raises:
        TokenizeError: a line is no rank, nothing is known under that name, or an allowed token is not special.
    """

    def __init__(
        self,
        ranks: bytes,
        name: str,
        threads: int,
        encoding: Encoding | None = None,
        allowed: Collection[str] = (),
    ) -> None:
        import tiktoken

        encoding = encoding or ENCODINGS.get(name)
        if encoding is None:
            raise TokenizeError(
                f"a rank file says neither its pattern nor its specials, and {name!r} is none of "
                f"{', '.join(ENCODINGS)}: name the file so, or pass encoding="
            )
        self.ranks, self.name, self.encoding, self._threads = ranks, name, encoding, threads
        for token in allowed:
            if token not in encoding.specials:
                raise TokenizeError(f"the allowed special {token!r} is not among those of {name}")
        self._allowed = {token: encoding.specials[token] for token in allowed}
        self.tokens = _parsed(ranks)
        self._engine = guarded(
            lambda: tiktoken.Encoding(
                name,
                pat_str=encoding.pattern,
                mergeable_ranks=self.tokens,
                special_tokens=dict(encoding.specials),
            ),
            "not a rank file",
        )
        self._vocab_size = size_of_vocabulary([*self.tokens.values(), *encoding.specials.values()])

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, specials included."""
        return self._vocab_size

    @property
    def specials(self) -> Mapping[str, str]:
        """The end of text, where the encoding has one."""
        return {"eos_token": "<|endoftext|>"} if "<|endoftext|>" in self.encoding.specials else {}

    @property
    def allowed(self) -> Mapping[str, int]:
        """The special tokens that text may spell."""
        return self._allowed

    @property
    def identity(self) -> bytes:
        """The ranks, the pattern and the specials."""
        return b"\0".join([self.ranks, self.encoding.pattern.encode(), repr(self._special_items()).encode()])

    def _special_items(self) -> list[tuple[str, int]]:
        return sorted(self.encoding.specials.items())

    def token_id(self, token: str) -> int | None:
        """The id of a token by its spelling."""
        return self.encoding.specials.get(token, self.tokens.get(token.encode()))

    def reserved(self, specials: Mapping[str, str]) -> set[int]:
        """The ids of the special tokens."""
        return set(self.encoding.specials.values()) - set(self._allowed.values())

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text, uint32."""
        return encode_in_threads(self._encode, texts, self._threads)

    def _encode(self, texts: list[str]) -> Ragged:
        allowed = set(self._allowed)
        rows = guarded(
            lambda: [
                self._engine.encode_to_numpy(text, allowed_special=allowed, disallowed_special=())
                for text in texts
            ],
            "the tiktoken library failed",
        )
        return ragged_ids(rows)

    def spans(self, text: str) -> list[Span]:
        """Never needed: every id stands for its bytes."""
        raise TokenizeError("the ids of a rank file always give back the text: please report this document")

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Never needed: ``pieces`` are known."""
        return [self._engine.decode(row) for row in rows]

    def files(self) -> Mapping[str, bytes]:
        """The rank file."""
        return {f"{self.name}.tiktoken": self.ranks}

    def config(self) -> dict[str, Any]:
        """The name, and what is known under it."""
        return {
            "format": "tiktoken",
            "name": self.name,
            "pattern": self.encoding.pattern,
            "special_ids": dict(self._special_items()),
        }

    def pieces(self) -> TokenBytes:
        """The tokens themselves."""
        rows = [b""] * self._vocab_size
        exact = np.zeros(self._vocab_size, np.bool_)
        for token, rank in self.tokens.items():
            rows[rank], exact[rank] = token, True
        for name, number in self._allowed.items():
            rows[number], exact[number] = name.encode(), True
        return TokenBytes(Ragged.from_rows(rows), exact, np.zeros(self._vocab_size, np.bool_))


def _parsed(ranks: bytes) -> dict[bytes, int]:
    tokens: dict[bytes, int] = {}
    for number, line in enumerate(ranks.splitlines(), 1):
        if not line.strip():
            continue
        try:
            spelled, rank = line.split()
            token = base64.b64decode(spelled, validate=True)
            twice = token in tokens
            tokens[token] = int(rank)
        except (ValueError, binascii.Error):
            raise TokenizeError(
                f"line {number} of the rank file is not 'base64 rank': {line[:40]!r}"
            ) from None
        if twice:
            raise TokenizeError(f"line {number} of the rank file gives the token {token!r} twice")
    if len(set(tokens.values())) != len(tokens):
        raise TokenizeError("the rank file gives a rank twice")
    if not all(bytes([byte]) in tokens for byte in range(256)):
        raise TokenizeError(
            "the rank file lacks a token for some of the 256 bytes: text could not be encoded"
        )
    return tokens
