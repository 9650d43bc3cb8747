r"""RWKV's tokenizer: from left to right, always the longest token of the vocabulary (the "World" vocabularies).

The vocabulary is a text file with one token a line, ``id literal length``, where the literal is a Python string or
bytes and the length counts its bytes:

    33 ' ' 1
    256 b'\xff' 1
    257 '\t\t' 2

Id 0 is in no file: it ends a document, opens one and pads, as in RWKV's own code. Where all 256 bytes are tokens, as
in the published file, any bytes round trip.

Cost: a step in a trie for each byte, and again for those read past the end of a token; never more than the length of
the longest token for each byte.
"""

from __future__ import annotations

import ast
import functools
import itertools
import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tersely.errors import TokenizeError
from tersely.gather import gather_rows
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

VOCABULARY_NAME = "rwkv_vocab.txt"
"""The vocabulary in a saved folder."""

_END_OF_TEXT = 0
_LINE = re.compile(r"""([0-9]{1,9}) ([bB]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")) ([0-9]{1,9})""")


class RwkvTokenizer:
    """Greedy longest match over bytes.

    Args:
        tokens: the bytes of each id, ids from 1 on.
        threads: how many threads encode (the ids do not depend on it); by default one for each processor.

    Raises:
        TokenizeError: a token is empty or is there twice, or an id is below 1 or above ``MOST_IDS``.
    """

    def __init__(self, tokens: dict[int, bytes], threads: int | None = None) -> None:
        self._threads = thread_count(threads)
        self._tokens = dict(sorted(tokens.items()))
        if not self._tokens or next(iter(self._tokens)) <= _END_OF_TEXT:
            raise TokenizeError("an RWKV vocabulary has tokens of ids 1 and above: 0 is the end of text")
        seen: dict[bytes, int] = {}
        for token_id, token in self._tokens.items():
            if not token or token in seen:
                fault = f"is that of id {seen[token]} too" if token else "is empty"
                raise TokenizeError(f"the token {token!r} of id {token_id} {fault}: keep one of a kind")
            seen[token] = token_id
        self._vocab_size = size_of_vocabulary(self._tokens)
        self._dtype = id_dtype(self._vocab_size)
        self._lengths = np.zeros(self._vocab_size, np.int64)
        self._lengths[list(self._tokens)] = [len(token) for token in self._tokens.values()]

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None) -> RwkvTokenizer:
        """From a vocabulary file, or a folder written by ``save``.

        Raises:
            TokenizeError: a line is not ``id literal length``, or says something wrong; the message has its number.
        """
        path = Path(path)
        file = path / VOCABULARY_NAME if path.is_dir() else path
        try:
            lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TokenizeError(f"{file} cannot be read as a vocabulary: {error}") from error
        tokens: dict[int, bytes] = {}
        for number, line in enumerate(lines, 1):
            try:
                token_id, token = parse_line(line)
                if token_id in tokens:
                    raise TokenizeError(f"the id {token_id} is that of an earlier line too")
            except TokenizeError as error:
                raise TokenizeError(f"{file}, line {number}: {error}") from None
            tokens[token_id] = token
        try:
            return cls(tokens, threads)
        except TokenizeError as error:
            raise TokenizeError(f"{file}: {error}") from None

    @property
    def vocab_size(self) -> int:
        """One more than the largest id of the file (published models round up: 65,536 rows for 65,530 ids)."""
        return self._vocab_size

    @property
    def bos_id(self) -> int:
        """0, the end of the document before."""
        return _END_OF_TEXT

    @property
    def eos_id(self) -> int:
        """0, the end of text."""
        return _END_OF_TEXT

    @property
    def pad_id(self) -> int:
        """0, the end of text."""
        return _END_OF_TEXT

    @property
    def fingerprint(self) -> str:
        """A hash of the tokens and their ids."""
        return config_fingerprint({"type": "rwkv"}, self._file().encode())

    def encode(self, texts: Texts, *, bos: bool = False, eos: bool = False) -> Ragged:
        """A row of ids for each text, uint16 for the published vocabulary.

        Raises:
            TokenizeError: a byte begins no token of the vocabulary (never, where all 256 bytes are tokens), or a
                string has a lone surrogate.
        """
        return self._encode(one_buffer(texts), bos, eos)

    def encode_with_offsets(
        self,
        texts: Texts,
        *,
        bos: bool = False,
        eos: bool = False,
        unit: Literal["byte", "character"] = "byte",
    ) -> tuple[Ragged, Ragged]:
        """The ids, and for each the half-open range of its source, values ``(total, 2)`` int64.

        In bytes the ranges are exact and adjoin. A token can begin or end inside a character: with
        ``unit="character"`` it then has all of it.
        """
        check_unit(unit)
        documents = one_buffer(texts)
        ids = self._encode(documents, bos, eos)
        lengths = self._lengths[ids.values]
        ends = np.cumsum(lengths) - np.repeat(documents.offsets[:-1], ids.lengths)
        spans = Ragged(np.stack([ends - lengths, ends], axis=1), ids.offsets)
        return ids, spans if unit == "byte" else character_spans(documents, spans)

    def decode(self, ids: Ragged, *, bos: bool = False, eos: bool = False) -> list[bytes]:
        """The bytes of each row; id 0 is left out. Raises TokenizeError for ids that stand for nothing."""
        rows = ids.to_numpy()
        values = check_ids(rows.values, self._vocab_size)
        known = (self._lengths[values] > 0) | (values == _END_OF_TEXT)
        if not known.all():
            raise TokenizeError(f"the id {values[known.argmin()]} is not in the vocabulary")
        values = values.astype(np.int64, copy=False)
        ends = np.concatenate([[0], np.cumsum(self._lengths[values])])
        text = gather_rows(self._text, self._starts[values], ends).tobytes()
        bounds = ends[rows.offsets].tolist()
        return [text[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]

    def save(self, folder: str | Path) -> None:
        """Writes the vocabulary into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / VOCABULARY_NAME).write_text(self._file(), encoding="utf-8")
        (folder / CONFIG_NAME).write_text(json.dumps({"type": "rwkv"}, indent=2) + "\n")

    def _file(self) -> str:
        return "".join(f"{i} {token!r} {len(token)}\n" for i, token in self._tokens.items())

    @functools.cached_property
    def _text(self) -> np.ndarray[Any, Any]:
        return np.frombuffer(b"".join(self._tokens.values()), np.uint8)

    @functools.cached_property
    def _starts(self) -> np.ndarray[Any, Any]:
        """Where the bytes of each id are in ``_text``."""
        return np.cumsum(self._lengths) - self._lengths

    @functools.cached_property
    def _trie(self) -> Any:
        from tersely.tokenize.trie import build_trie  # late: it brings numba, which decoding does without

        return build_trie(list(self._tokens.values()), list(self._tokens))

    def _encode(self, documents: Ragged, bos: bool, eos: bool) -> Ragged:
        from tersely.tokenize.greedy import encode_greedy

        trie = self._trie
        lead, trail = (_END_OF_TEXT if bos else -1), (_END_OF_TEXT if eos else -1)

        def part(first: int, last: int) -> tuple[Any, Any]:
            rows = documents[first:last]
            ids = np.empty(len(rows.values) + 2 * len(rows), np.uint32)
            lengths, fault = encode_greedy(
                trie.cells, trie.values, rows.values, rows.offsets, lead, trail, ids
            )
            if fault >= 0:
                document = first + int(np.searchsorted(rows.offsets, fault, "right")) - 1
                self._refuse(document, fault - int(rows.offsets[document - first]), int(rows.values[fault]))
            return ids[: lengths.sum()].astype(self._dtype), lengths

        parts = in_parts(documents.offsets, self._threads, part)
        lengths = np.concatenate([lengths for _, lengths in parts])
        return Ragged(np.concatenate([ids for ids, _ in parts]), np.concatenate([[0], np.cumsum(lengths)]))

    def _refuse(self, document: int, place: int, byte: int) -> None:
        raise TokenizeError(
            f"document {document} at byte {place}: no token of the vocabulary covers the byte 0x{byte:02x} there; "
            "leave the document out, or add the byte to the vocabulary",
            document,
        )

    def __repr__(self) -> str:
        return f"RwkvTokenizer({len(self._tokens)} tokens)"


def is_rwkv(file: Path) -> bool:
    """Whether the first lines of ``file`` are those of an RWKV vocabulary."""
    try:
        with file.open(encoding="utf-8") as stream:
            lines = [line.rstrip("\n") for line in itertools.islice(stream, 3)]
    except (OSError, UnicodeDecodeError):
        return False
    return bool(lines) and all(_LINE.fullmatch(line) for line in lines)


def parse_line(line: str) -> tuple[int, bytes]:
    """The id and the bytes of one line of a vocabulary file; raises TokenizeError, without the place, if it is none."""
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise TokenizeError(f"{line[:80]!r} is not of the form: id 'token' length")
    try:
        literal = ast.literal_eval(parts[2])  # reads literals only, and the pattern lets through just one
        token: bytes = literal.encode() if isinstance(literal, str) else literal
    except (ValueError, SyntaxError) as error:
        raise TokenizeError(f"{parts[2][:80]} is not a string or bytes: {error}") from None
    if len(token) != int(parts[3]):
        raise TokenizeError(f"{parts[2][:80]} has {len(token)} bytes, not {parts[3]}")
    return int(parts[1]), token
