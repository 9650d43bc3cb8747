"""A batch of texts to ids, without the documents that the tokenizer cannot encode and those that give no ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tersely.corpus.marked import count_untrained, encode_marked
from tersely.corpus.read import Batch, Document, Rejected, raw_bytes
from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize import Tokenizer


@dataclass(frozen=True)
class Encoded:
    """What became of the texts of a batch: every one is a row of ``ids``, ``empty`` or ``failed``.

    ``kept`` are the numbers, in the batch, of the texts that are rows; ``bytes`` are their UTF-8 bytes.
    """

    ids: Ragged
    kept: list[int]
    bytes: int
    empty: int
    failed: list[Rejected]
    trained: Ragged | None = None
    """For each id whether it is trained on; None if all are."""
    untrained: int = 0
    """Documents of which nothing is trained on."""


def encode_batch(batch: Batch, tok: Tokenizer, bos: bool, eos: bool) -> Encoded:
    """Encodes all texts of a batch; those that the tokenizer refuses are taken out, each with its reason."""
    numbers, failed = range(len(batch.texts)), []
    try:
        ids, trained = _encode(batch.texts, tok, bos, eos)
    except TokenizeError as error:
        if error.document is None:
            raise
        numbers, ids, trained, failed = _one_by_one(batch, tok, bos, eos)
    filled = ids.lengths > bos + eos
    if trained is not None:  # their text may spell bos and eos itself
        filled = np.array([bool(raw_bytes(batch.texts[number])) for number in numbers], np.bool_)
    kept = [number for number, is_filled in zip(numbers, filled.tolist(), strict=True) if is_filled]
    size = sum(_utf8_bytes(batch.texts[number]) for number in kept)
    if not filled.all():
        rows = np.flatnonzero(filled)
        ids, trained = ids.take(rows), trained.take(rows) if trained is not None else None
    untrained = count_untrained(trained) if trained is not None else 0
    return Encoded(ids, kept, size, len(numbers) - len(ids), failed, trained, untrained)


def _encode(texts: Sequence[Document], tok: Tokenizer, bos: bool, eos: bool) -> tuple[Ragged, Ragged | None]:
    """The ids, and which of them are trained on, None for plain texts (a batch has only one of both kinds)."""
    marked = [text for text in texts if not isinstance(text, str | bytes)]
    if marked:
        return encode_marked(marked, tok, bos, eos)
    return tok.encode([text for text in texts if isinstance(text, str | bytes)], bos=bos, eos=eos), None


def _one_by_one(
    batch: Batch, tok: Tokenizer, bos: bool, eos: bool
) -> tuple[list[int], Ragged, Ragged | None, list[Rejected]]:
    """The numbers of the texts that can be encoded, their ids, which are trained on, and the other texts."""
    numbers: list[int] = []
    rows = [tok.encode([], bos=bos, eos=eos)]
    flags: list[Ragged] = []
    failed: list[Rejected] = []
    for number, text in enumerate(batch.texts):
        try:
            ids, trained = _encode([text], tok, bos, eos)
            rows.append(ids)
            flags += [trained] if trained is not None else []
            numbers.append(number)
        except TokenizeError as error:
            if error.document is None:
                raise
            reason = f"not encoded: {str(error).removeprefix('document 0 ')}"
            place = batch.lines[number], batch.bytes_at[number]
            failed.append(Rejected.of(raw_bytes(text), *place, reason))
    return numbers, Ragged.concat(rows), Ragged.concat(flags) if flags else None, failed


def _utf8_bytes(text: Document) -> int:
    return len(text) if isinstance(text, str) and text.isascii() else len(raw_bytes(text))
