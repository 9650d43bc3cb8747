"""What a code does to a text: how long the windows are, how evenly ids are used, what an edit changes, what is lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tersely.compress.equal_info.contexts import contexts_before
from tersely.compress.equal_info.models import ByteModel, NgramModel
from tersely.compress.equal_info.models.protocol import PRECISION
from tersely.compress.equal_info.tokenizer import EqualInfoTokenizer
from tersely.errors import UsageError
from tersely.ragged import Ragged
from tersely.tokenize.batch import one_buffer
from tersely.tokenize.protocol import Texts

_INSERTED = b" "
_CHUNK = 1 << 14
_ENOUGH = 1 << 17  # bytes to run a network on


@dataclass(frozen=True, kw_only=True)
class CodeReport:
    """Figures of a code on a text that it should not have been trained on.

    Attributes:
        documents: that were measured.
        bytes: of them.
        tokens: that they became.
        bits_per_byte: what the ids take at ``bits`` each.
        unigram_bits_per_byte: what they take if each takes as many bits as its frequency in the text allows.
        unigram_entropy: bits of a token by these frequencies; at most ``bits``.
        model_bits_per_byte: what the model takes that the code was built by, if it had all of the text before: what is
            between is lost to windows. None if there is no model.
        live_ids: ids that some text can give.
        used_ids: ids that the text gives.
        changed_tokens: how many tokens of a document change, on average, if a space is put before it.
        changed_share: of all tokens.
        failures: documents that do not come back; anything but 0 is an error of this program.
        lengths: how many windows have each number of bytes, from 0 on.
    """

    documents: int
    bytes: int
    tokens: int
    bits_per_byte: float
    unigram_bits_per_byte: float
    unigram_entropy: float
    model_bits_per_byte: float | None
    live_ids: int
    used_ids: int
    changed_tokens: float
    changed_share: float
    failures: int
    lengths: list[int]

    @property
    def bytes_per_token(self) -> float:
        """On average."""
        return self.bytes / self.tokens

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self) | {"bytes_per_token": self.bytes_per_token}


def measure_code(tok: EqualInfoTokenizer, texts: Texts, model: ByteModel | None = None) -> CodeReport:
    """Measures a code.

    Args:
        tok: the code.
        texts: the documents to measure on.
        model: that the code was built by, for ``model_bits_per_byte``.

    Raises:
        UsageError: there is not a byte of text.
    """
    documents = one_buffer(texts)
    if not len(documents.values):
        raise UsageError("there is no text to measure the code on: name documents that it was not trained on")
    ids, spans = tok.encode_with_offsets(documents)
    tokens, size = len(ids.values), len(documents.values)
    frequencies = np.bincount(ids.values, minlength=tok.vocab_size)
    used = frequencies[frequencies > 0] / tokens
    entropy = float(-(used * np.log2(used)).sum())
    back = tok.decode(ids)
    changed = _changed(tok, documents, ids, spans)
    return CodeReport(
        documents=len(documents),
        bytes=size,
        tokens=tokens,
        bits_per_byte=tok.bits * tokens / size,
        unigram_bits_per_byte=entropy * tokens / size,
        unigram_entropy=entropy,
        model_bits_per_byte=_model_bits(model, documents) if model else None,
        live_ids=_live(tok),
        used_ids=len(used),
        changed_tokens=changed / len(documents),
        changed_share=changed / tokens,
        failures=sum(text != row.tobytes() for text, row in zip(back, documents, strict=True)),
        lengths=np.bincount(np.diff(spans.values, axis=1)[:, 0]).tolist(),
    )


def _live(tok: EqualInfoTokenizer) -> int:
    """Ids that a document can begin with, tried one by one."""
    every = np.arange(1, tok.vocab_size)
    back = tok.encode(tok.decode(Ragged(every, np.arange(len(every) + 1))))
    alone = back.lengths == 1
    return int((back.values[back.offsets[:-1][alone]] == every[alone]).sum())


def _changed(tok: EqualInfoTokenizer, documents: Ragged, ids: Ragged, spans: Ragged) -> int:
    """Tokens that are no longer there, at their bytes, once a byte stands before each document."""
    moved = one_buffer([_INSERTED + row.tobytes() for row in documents])
    new_ids, new_spans = tok.encode_with_offsets(moved)

    def keys(ids: Ragged, spans: Ragged, rows: Ragged, before: int) -> Any:
        starts = (
            spans.values
            + (np.repeat(rows.offsets[:-1], ids.lengths) - before * (ids.segment_ids + 1))[:, None]
        )
        return np.stack([starts[:, 0], starts[:, 1], ids.values.astype(np.int64)], axis=1)

    old = keys(ids, spans, documents, 0)
    new = keys(new_ids, new_spans, moved, len(_INSERTED))
    kept = {tuple(key) for key in new.tolist()}
    return sum(tuple(key) not in kept for key in old.tolist())


def _model_bits(model: ByteModel, documents: Ragged) -> float:
    """Bits that the model needs for a byte of the documents with all of its context; rounded as a statistic may be."""
    if not isinstance(model, NgramModel):  # counts are looked up, a network has to be run
        documents = documents.take(np.arange(0, len(documents), max(1, len(documents.values) // _ENOUGH)))
    contexts = contexts_before(documents.values, documents.offsets, model.context)
    bits = 0.0
    for start in range(0, len(contexts), _CHUNK):
        part = slice(start, start + _CHUNK)
        sums, bytes_ = model.cdf(model.known(contexts[part])), documents.values[part].astype(np.int64)
        rows = np.arange(len(bytes_))
        bits -= float(np.log2((sums[rows, bytes_ + 1] - sums[rows, bytes_]) / (1 << PRECISION)).sum())
    return bits / len(contexts)
