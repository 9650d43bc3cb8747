"""``WordPieceTokenizer``: BERT's pieces through the compiled path, and the library for the rare rest."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers

from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize.batch import in_parts, one_buffer, thread_count
from tersely.tokenize.characters import character_spans
from tersely.tokenize.protocol import (
    CONFIG_NAME,
    Texts,
    check_ids,
    check_unit,
    config_fingerprint,
    id_dtype,
    size_of_vocabulary,
)
from tersely.tokenize.wordpiece.rules import ROLES, WordPieceRules, read_wordpiece
from tersely.tokenize.wordpiece.table import BLOCK, CharacterTable, character_table


class WordPieceTokenizer:
    """BERT's WordPiece: ids as ``tokenizers`` gives them, in time linear in the length of the text.

    WordPiece keeps neither blanks nor, where the rules say so, case and accents: ``decode`` gives text of the same
    words, not the bytes that were encoded. The offsets are exact all the same.

    Args:
        pieces: the id of each piece, special tokens among them.
        rules: what is done to text before it is matched.
        roles: the spelling of ``bos_token``, ``eos_token``, ``pad_token`` and ``mask_token``; each may be missing.
        others: further special tokens. No text becomes one of these or of ``roles``, however it is spelled.
        threads: how many threads encode (the ids do not depend on it); by default one for each processor.

    Raises:
        TokenizeError: a special token is not among the pieces, two pieces have the same id, or one is out of bounds.
    """

    def __init__(
        self,
        pieces: Mapping[str, int],
        rules: WordPieceRules | None = None,
        roles: Mapping[str, str] | None = None,
        others: Collection[str] = (),
        threads: int | None = None,
    ) -> None:
        self._threads = thread_count(threads)
        self._pieces, self._rules, self._roles = dict(pieces), rules or WordPieceRules(), dict(roles or {})
        named = [("unknown token", self._rules.unknown), *self._roles.items()]
        for role, token in named + [("special token", token) for token in others]:
            if token not in self._pieces:
                raise TokenizeError(f"the {role} {token!r} is not in the vocabulary: name one that is")
        if not self._roles.keys() <= ROLES.keys():
            raise TokenizeError(
                f"the roles {sorted(self._roles.keys() - ROLES)} are not of {', '.join(ROLES)}"
            )
        self._specials = {*self._roles.values(), *others} - {self._rules.unknown}
        self._spellings = {piece_id: piece for piece, piece_id in self._pieces.items()}
        if len(self._spellings) < len(self._pieces) or min(self._spellings) < 0:
            raise TokenizeError("two pieces of the vocabulary have the same id, or one is below 0")
        self._vocab_size = size_of_vocabulary(self._spellings)
        self._dtype = id_dtype(self._vocab_size)

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None) -> WordPieceTokenizer:
        """From a ``vocab.txt``, a ``tokenizer.json`` of BERT's kind, or a folder that holds one.

        Beside a ``vocab.txt``, ``tokenizer_config.json`` says whether letters are made small (``do_lower_case``) and
        accents stripped. Without it they are, unless a piece has a capital letter (brackets aside).
        """
        file = read_wordpiece(Path(path))
        try:
            return cls(file.pieces, file.rules, file.roles, file.others, threads)
        except TokenizeError as error:
            raise TokenizeError(f"{path}: {error}") from None

    @property
    def rules(self) -> WordPieceRules:
        """What is done to text before it is matched."""
        return self._rules

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self._vocab_size

    @property
    def bos_id(self) -> int | None:
        """The id that may open a document: that of ``[CLS]``."""
        return self._special_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        """The id that may close a document: that of ``[SEP]``."""
        return self._special_id("eos_token")

    @property
    def pad_id(self) -> int | None:
        """The id for padding: that of ``[PAD]``."""
        return self._special_id("pad_token")

    @property
    def special_ids(self) -> Mapping[str, int]:
        """The special tokens, which no text becomes."""
        return {token: self._pieces[token] for token in sorted(self._specials)}

    @property
    def fingerprint(self) -> str:
        """A hash of the pieces, the rules for text and the special tokens."""
        config = (
            asdict(self._rules) | {"cleanup": None} | self._config() | {"specials": sorted(self._specials)}
        )
        return config_fingerprint(config, json.dumps(self._pieces, sort_keys=True).encode())

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """A row of ids for each text, in the smallest unsigned dtype that holds the vocabulary.

        Raises:
            TokenizeError: a text is not UTF-8, or a special is asked for that the vocabulary lacks.
        """
        return self._encode(one_buffer(texts), bos, eos, False)[0]

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each the half-open range of its source, values ``(total, 2)`` int64.

        The range goes from the first character that the piece is made of to the last, as they are in the text: in
        capitals, with accents, and with what was left out between them. Pieces of one character share its range.
        """
        check_unit(unit)
        documents = one_buffer(texts)
        ids, spans = self._encode(documents, bos, eos, True)
        assert spans is not None
        return ids, spans if unit == "byte" else character_spans(documents, spans)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The words of each row as UTF-8, as the library's WordPiece decoder joins them; not the text as it was.

        Special tokens are left out, but unknown words show as ``[UNK]``. Raises TokenizeError for ids that stand
        for nothing.
        """
        decoder = tokenizers.decoders.WordPiece(self._rules.prefix, self._rules.cleanup)
        rows = ids.to_numpy()
        numbers = Ragged(check_ids(rows.values, self._vocab_size), rows.offsets).to_list()
        try:
            spelled = [[self._spellings[i] for i in row] for row in numbers]
        except KeyError as error:
            raise TokenizeError(f"the id {error} is not in the vocabulary") from None
        kept = ([piece for piece in row if piece not in self._specials] for row in spelled)
        return [str(decoder.decode(row)).encode() for row in kept]

    def save(self, folder: str | Path) -> None:
        """Writes a ``tokenizer.json``, which other libraries read too, into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stored = self._library(self._pieces)
        stored.add_special_tokens(
            sorted(self._specials | {self._rules.unknown}, key=self._pieces.__getitem__)
        )
        stored.decoder = tokenizers.decoders.WordPiece(self._rules.prefix, self._rules.cleanup)
        (folder / "tokenizer.json").write_text(stored.to_str(pretty=True), encoding="utf-8")
        (folder / CONFIG_NAME).write_text(json.dumps(self._config(), indent=2) + "\n", encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        return {"type": "wordpiece", **self._roles}

    def _special_id(self, role: str) -> int | None:
        return self._pieces[self._roles[role]] if role in self._roles else None

    def _encode(self, documents: Ragged, bos: bool, eos: bool, located: bool) -> tuple[Ragged, Ragged | None]:
        from tersely.tokenize.wordpiece.normal import blocks_in  # late: numba is for encoding only
        from tersely.tokenize.wordpiece.words import encode_documents

        lead, trail = self._asked(bos, "bos_token"), self._asked(eos, "eos_token")
        limit = min(self._rules.max_word_characters, np.iinfo(np.int64).max)  # of what compiled code can hold
        options = (lead, trail, self._pieces[self._rules.unknown], limit)
        seen = np.zeros(0x110000 // BLOCK, np.bool_)
        if len(documents.values) and documents.values.max() >= 0x80:
            broken = int(blocks_in(documents.values, documents.offsets, seen))
            if broken >= 0:
                _refuse(broken, documents[broken].tobytes())
        table, automaton = tuple(self._characters.of_blocks(np.flatnonzero(seen))), tuple(self._automaton)

        def part(first: int, last: int) -> tuple[Any, Any, Any]:
            rows = documents[first:last]
            room = len(rows.values) + 2 * len(rows)
            ids, spans = np.empty(room, np.uint32), np.empty((room * located, 2), np.int64)
            lengths = encode_documents(table, automaton, rows.values, rows.offsets, options, ids, spans)
            kept = np.maximum(lengths, 0)
            total = int(kept.sum())
            if located:
                spans[:total] -= np.repeat(rows.offsets[:-1], kept)[:, None]
            return ids[:total].astype(self._dtype), spans[: total * located], lengths

        parts = in_parts(documents.offsets, self._threads, part)
        lengths = np.concatenate([found[2] for found in parts])
        offsets = np.concatenate([[0], np.cumsum(np.maximum(lengths, 0))])
        ids = Ragged(np.concatenate([found[0] for found in parts]), offsets)
        spans = Ragged(np.concatenate([found[1] for found in parts]), offsets) if located else None
        left = np.flatnonzero(lengths < 0)
        if not len(left):
            return ids, spans
        order = np.arange(len(documents))
        order[left] = np.arange(len(left)) + len(documents)
        slow_ids, slow_spans = self._encode_by_library(documents.take(left), lead, trail)
        ids = Ragged.concat([ids, slow_ids]).take(order)
        return ids, Ragged.concat([spans, slow_spans]).take(order) if spans is not None else None

    def _encode_by_library(self, documents: Ragged, lead: int, trail: int) -> tuple[Ragged, Ragged]:
        """The same by the library, for documents in which combining marks change places."""
        pieces = {piece: i for piece, i in self._pieces.items() if piece not in self._specials}
        raw = [row.tobytes() for row in documents]
        encodings = self._library(pieces).encode_batch(
            [text.decode() for text in raw], add_special_tokens=False
        )
        ids: list[Any] = []
        spans: list[Any] = []
        for text, encoding in zip(raw, encodings, strict=True):
            starts = np.flatnonzero(np.frombuffer(text, np.uint8) & 0xC0 != 0x80)
            ranges = np.append(starts, len(text))[np.array(encoding.offsets, np.int64).reshape(-1, 2)]
            opened, closed = [[0, 0]] * (lead >= 0), [[len(text)] * 2] * (trail >= 0)
            spans.append(
                np.concatenate([np.array(more, np.int64).reshape(-1, 2) for more in (opened, ranges, closed)])
            )
            ids.append([lead] * (lead >= 0) + encoding.ids + [trail] * (trail >= 0))
        return Ragged.from_rows(ids, self._dtype), Ragged.from_rows(spans)

    def _library(self, pieces: dict[str, int]) -> Any:
        rules = self._rules
        model = tokenizers.models.WordPiece(
            pieces,
            unk_token=rules.unknown,
            continuing_subword_prefix=rules.prefix,
            max_input_chars_per_word=rules.max_word_characters,
        )
        library = tokenizers.Tokenizer(model)
        library.normalizer = tokenizers.normalizers.BertNormalizer(
            rules.clean_text, rules.handle_chinese_chars, rules.strip_accents, rules.lowercase
        )
        library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        return library

    def _asked(self, asked: bool, role: str) -> int:
        """The id of a special token that is asked for, -1 if it is not."""
        if asked and role not in self._roles:
            raise TokenizeError(f"the vocabulary names no {role}: give it in roles={{'{role}': ...}}")
        return self._pieces[self._roles[role]] if asked else -1

    @functools.cached_property
    def _characters(self) -> CharacterTable:
        rules = self._rules
        return character_table(
            rules.clean_text, rules.handle_chinese_chars, rules.strip_accents, rules.lowercase
        )

    @functools.cached_property
    def _automaton(self) -> Any:
        from tersely.tokenize.wordpiece.automaton import build_automaton

        return build_automaton(self._pieces, self._rules, self._specials)

    def __reduce__(self) -> tuple[Any, ...]:
        # What is made from these stays behind: it is shared in its process, under a lock.
        return WordPieceTokenizer, (self._pieces, self._rules, self._roles, self._specials, self._threads)

    def __repr__(self) -> str:
        return f"WordPieceTokenizer({len(self._pieces)} pieces)"


def _refuse(document: int, text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise TokenizeError(
            f"document {document} is not UTF-8 at byte {error.start}: WordPiece takes text", document
        ) from None
