"""A SentencePiece model, run by the ``sentencepiece`` library: its own ids, its own offsets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tersely.ragged import Ragged
from tersely.tokenize.batch import encode_in_threads
from tersely.tokenize.subword.cuts import cutter_of_pieces, encode_in_parts
from tersely.tokenize.subword.model import Span, TokenBytes, guarded, ragged_ids

_SPACE = "\u2581"


class SentencePieceModel:
    """A ``.model`` file of any kind: Unigram, BPE, character or word, with byte fallback or without.

    Args:
        model: the file's content.
        threads: how many encode at a time.

    Raises:
        TokenizeError: the library cannot load it.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        import sentencepiece

        self._model, self._threads = model, threads
        self._engine = guarded(
            lambda: sentencepiece.SentencePieceProcessor(model_proto=model), "not a SentencePiece model"
        )
        pieces = [self._engine.id_to_piece(number) for number in range(self.vocab_size)]
        fallback = any(map(self._engine.is_byte, range(self.vocab_size)))
        self._cutter = cutter_of_pieces(pieces, fallback, self._encode)

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return self._engine.vocab_size()

    @property
    def specials(self) -> Mapping[str, str]:
        """Those that the model names."""
        ids = {
            "bos_token": self._engine.bos_id(),
            "eos_token": self._engine.eos_id(),
            "pad_token": self._engine.pad_id(),
        }
        return {role: self._engine.id_to_piece(number) for role, number in ids.items() if number >= 0}

    @property
    def control_ids(self) -> Mapping[str, int]:
        """The control pieces, which the library finds in no text."""
        control = filter(self._engine.is_control, range(self.vocab_size))
        return {self._engine.id_to_piece(number): number for number in control}

    @property
    def allowed(self) -> Mapping[str, int]:
        """None: the library finds control pieces in no text."""
        return {}

    @property
    def identity(self) -> bytes:
        """The model file."""
        return self._model

    def token_id(self, token: str) -> int | None:
        """The id of a piece by its spelling."""
        number = self._engine.piece_to_id(token)
        return number if self._engine.id_to_piece(number) == token else None

    def reserved(self, specials: Mapping[str, str]) -> set[int]:
        """The control pieces, which the library finds in no text, and what the caller names as specials."""
        named = {self.token_id(token) for token in specials.values()}
        return {*self.control_ids.values(), *(number for number in named if number is not None)}

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text, uint32."""
        return encode_in_parts(
            texts, self._cutter, lambda parts: encode_in_threads(self._encode, parts, self._threads)
        )

    def _encode(self, texts: list[str]) -> Ragged:
        rows = guarded(
            lambda: self._engine.encode(texts, return_type="numpy", num_threads=1),
            "the sentencepiece library failed",
        )
        return ragged_ids(rows)

    def spans(self, text: str) -> list[Span]:
        """The library's own: together they cover what its normaliser kept, and what it dropped goes to a neighbour."""
        return guarded(
            lambda: self._engine.encode(text, return_type="offset_mapping")["offsets"],
            "the sentencepiece library failed",
        )

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Never needed: ``pieces`` are known."""
        return self._engine.decode(rows)

    def files(self) -> Mapping[str, bytes]:
        """The model file."""
        return {"sentencepiece.model": self._model}

    def config(self) -> dict[str, str]:
        """The kind of file."""
        return {"format": "sentencepiece"}

    def pieces(self) -> TokenBytes:
        """The bytes of each piece; control pieces have none."""
        engine, size = self._engine, self.vocab_size
        rows, firsts = [b""] * size, [b""] * size
        exact, single = np.ones(size, np.bool_), np.zeros(size, np.bool_)
        drops = self._drops_first_space()
        for number in range(size):
            piece = engine.id_to_piece(number)
            if engine.is_byte(number):
                single[number] = True
                rows[number] = firsts[number] = bytes([int(piece[3:5], 16)])
            elif engine.is_unknown(number):
                exact[number] = False
                rows[number] = firsts[number] = engine.decode([number]).encode()
            elif engine.is_control(number):
                exact[number] = False
            else:
                rows[number] = piece.replace(_SPACE, " ").encode()
                firsts[number] = rows[number].removeprefix(b" ") if piece.startswith(_SPACE) else rows[number]
        at_start = Ragged.from_rows(firsts) if drops else None
        return TokenBytes(Ragged.from_rows(rows), exact, single, at_start)

    def _drops_first_space(self) -> bool:
        """Whether the library takes the space of a first piece away, found by asking it."""
        engine = self._engine
        for number in range(self.vocab_size):
            piece = engine.id_to_piece(number)
            if len(piece) > 1 and piece.startswith(_SPACE) and piece.count(_SPACE) == 1:
                return not engine.decode([number]).startswith(" ")
        return engine.normalize("a").startswith(_SPACE)
