"""One tokenizer over the documents of a comparison: ids, time, what it refuses and what does not come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tersely.corpus.comparison.documents import Documents
from tersely.corpus.encode import encode_batch
from tersely.corpus.read import Batch
from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize import Tokenizer

_BATCH_BYTES = 1 << 20
_CONTEXT = 12
_TRIAL = 4096


@runtime_checkable
class _FindsWords(Protocol):
    """A tokenizer that knows the words in its ids (``words:gpt2``), for models that pool them."""

    def words(self, ids: Ragged) -> Ragged:
        """Rows -> words -> ids."""
        ...


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What a tokenizer made of the documents, ``D`` of them.

    Attributes:
        spec: what the tokenizer was named by.
        vocab_size: its ids are below this.
        fingerprint: of the tokenizer.
        closing: tokens that close a document in a prepared corpus: 1 if there is an eos id, else 0.
        ids: a row for each document; of those left out, an empty one.
        encoded: which documents have ids, bool, shape ``(D,)``.
        restored: which documents decode to their own bytes, bool, shape ``(D,)``.
        came_back: bytes of each document that its decoding has as well, in whatever order, int64, shape ``(D,)``.
        pooled: words that the tokenizer finds in each document, int64, shape ``(D,)``; None if it does not know words.
        refusal: why the first of those left out was refused; "" if none was.
        loss: the first place at which a decoded document differs; "" if there is none.
        megabytes_per_second: UTF-8 bytes encoded in a second, without batches in which a document was refused; None if
            there were no others.
    """

    spec: str
    vocab_size: int
    fingerprint: str
    closing: int
    ids: Ragged
    encoded: np.ndarray[Any, Any]
    restored: np.ndarray[Any, Any]
    came_back: np.ndarray[Any, Any]
    pooled: np.ndarray[Any, Any] | None
    refusal: str
    loss: str
    megabytes_per_second: float | None


def encode_documents(
    spec: str, tok: Tokenizer, documents: Documents, on_encoded: Callable[[int, int], None] | None = None
) -> Encoding:
    """Encodes and decodes every document; ``on_encoded`` is told how many of how many bytes are done.

    Raises:
        TokenizeError: not one document can be encoded.
    """
    with suppress(TokenizeError):  # told below; what is compiled or started on first use is not timed
        tok.encode([documents.texts[0][:_TRIAL]])
    rows: list[Ragged] = [tok.encode([])]
    encoded, restored = (np.zeros(len(documents.texts), np.bool_) for _ in range(2))
    came_back = np.zeros(len(documents.texts), np.int64)
    refusal, loss = "", ""
    timed_bytes, seconds, done = 0, 0.0, 0
    for first, last in _batches(documents.bytes):
        batch = Batch()
        for text in documents.texts[first:last]:
            batch.add(text, 0, 0)
        started = time.perf_counter()
        made = encode_batch(batch, tok, bos=False, eos=False)
        took = time.perf_counter() - started
        size = int(documents.bytes[first:last].sum())
        if not made.failed:
            timed_bytes, seconds = timed_bytes + size, seconds + took
        refusal = refusal or next((rejected.reason for rejected in made.failed), "")
        kept = np.array(made.kept, np.int64) + first
        encoded[kept] = True
        for document, back in zip(kept.tolist(), tok.decode(made.ids), strict=True):
            raw = documents.texts[document].encode()
            restored[document] = back == raw
            came_back[document] = len(raw) if back == raw else _common(raw, back)
            loss = loss or ("" if back == raw else _difference(raw, back))
        rows.append(_with_gaps(made.ids, kept - first, last - first))
        done += size
        if on_encoded:
            on_encoded(done, int(documents.bytes.sum()))
    if not encoded.any():
        raise TokenizeError(
            f"{spec} turns none of the documents into tokens: {refusal or 'it drops all text'}"
        )
    ids = Ragged.concat(rows)
    return Encoding(
        spec=spec,
        vocab_size=tok.vocab_size,
        fingerprint=tok.fingerprint,
        closing=int(tok.eos_id is not None),
        ids=ids,
        encoded=encoded,
        restored=restored,
        came_back=came_back,
        pooled=tok.words(ids).lengths if isinstance(tok, _FindsWords) else None,
        refusal=refusal,
        loss=loss,
        megabytes_per_second=timed_bytes / 1e6 / seconds if seconds else None,
    )


def _batches(sizes: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """Ranges of documents that reach about a megabyte together."""
    first, size = 0, 0
    for last, more in enumerate(sizes.tolist(), 1):
        size += more
        if size >= _BATCH_BYTES or last == len(sizes):
            yield first, last
            first, size = last, 0


def _with_gaps(ids: Ragged, places: np.ndarray[Any, Any], count: int) -> Ragged:
    """``count`` rows: those of ``ids`` at ``places``, the others empty."""
    lengths = np.zeros(count, np.int64)
    lengths[places] = ids.lengths
    return Ragged(ids.values, np.concatenate([[0], np.cumsum(lengths)]))


def _common(raw: bytes, back: bytes) -> int:
    """How many bytes both have, order aside: few where text became unknown tokens, nearly all where blanks changed."""
    ours, theirs = (np.bincount(np.frombuffer(part, np.uint8), minlength=256) for part in (raw, back))
    return int(np.minimum(ours, theirs).sum())


def _difference(raw: bytes, back: bytes) -> str:
    """The surroundings of the first difference, before and after, in Python's spelling."""
    place = next(
        (i for i, (a, b) in enumerate(zip(raw, back, strict=False)) if a != b), min(len(raw), len(back))
    )
    start = max(0, place - _CONTEXT)
    ours, theirs = (part[start : place + _CONTEXT].decode("utf-8", "ignore") for part in (raw, back))
    return f"{ours!r} came back as {theirs!r}"
