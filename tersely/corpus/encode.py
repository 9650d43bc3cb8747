"""A batch of texts to ids, without the documents that the tokenizer cannot encode and those that give no ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tersely.corpus.read import Batch, Rejected
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
        ids = tok.encode(batch.texts, bos=bos, eos=eos)
    except TokenizeError as error:
        if error.document is None:
            raise
        numbers, ids, failed = _one_by_one(batch, tok, bos, eos)
    filled = ids.lengths > bos + eos
    kept = [number for number, is_filled in zip(numbers, filled.tolist(), strict=True) if is_filled]
    size = sum(_utf8_bytes(batch.texts[number]) for number in kept)
    if not filled.all():
        ids = ids.take(np.flatnonzero(filled))
    return Encoded(ids, kept, size, len(numbers) - len(ids), failed)


def _one_by_one(
    batch: Batch, tok: Tokenizer, bos: bool, eos: bool
) -> tuple[list[int], Ragged, list[Rejected]]:
    """The numbers of the texts that can be encoded, their ids, and the other texts."""
    numbers: list[int] = []
    rows = [tok.encode([], bos=bos, eos=eos)]
    failed: list[Rejected] = []
    for number, text in enumerate(batch.texts):
        try:
            rows.append(tok.encode([text], bos=bos, eos=eos))
            numbers.append(number)
        except TokenizeError as error:
            if error.document is None:
                raise
            reason = f"not encoded: {str(error).removeprefix('document 0 ')}"
            place = batch.lines[number], batch.bytes_at[number]
            raw = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
            failed.append(Rejected.of(raw, *place, reason))
    return numbers, Ragged.concat(rows), failed


def _utf8_bytes(text: str | bytes) -> int:
    return len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())
