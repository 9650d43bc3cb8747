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

    ``bytes`` are the UTF-8 bytes of the documents that are rows.
    """

    ids: Ragged
    bytes: int
    empty: int
    failed: list[Rejected]


def encode_batch(batch: Batch, tok: Tokenizer, bos: bool, eos: bool) -> Encoded:
    """Encodes all texts of a batch; those that the tokenizer refuses are taken out, each with its reason."""
    texts, failed = batch.texts, []
    try:
        ids = tok.encode(texts, bos=bos, eos=eos)
    except TokenizeError as error:
        if error.document is None:
            raise
        texts, ids, failed = _one_by_one(batch, tok, bos, eos)
    kept = ids.lengths > bos + eos
    size = sum(_utf8_bytes(text) for text, is_kept in zip(texts, kept.tolist(), strict=True) if is_kept)
    if not kept.all():
        ids = ids.take(np.flatnonzero(kept))
    return Encoded(ids, size, len(texts) - len(ids), failed)


def _one_by_one(
    batch: Batch, tok: Tokenizer, bos: bool, eos: bool
) -> tuple[list[str], Ragged, list[Rejected]]:
    """The texts that can be encoded, their ids, and the others."""
    texts: list[str] = []
    rows = [tok.encode([], bos=bos, eos=eos)]
    failed: list[Rejected] = []
    for text, line, byte in zip(batch.texts, batch.lines, batch.bytes_at, strict=True):
        try:
            rows.append(tok.encode([text], bos=bos, eos=eos))
            texts.append(text)
        except TokenizeError as error:
            if error.document is None:
                raise
            reason = f"not encoded: {str(error).removeprefix('document 0 ')}"
            failed.append(Rejected.of(text.encode("utf-8", "replace"), line, byte, reason))
    return texts, Ragged.concat(rows), failed


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
