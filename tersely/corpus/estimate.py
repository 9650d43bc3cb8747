"""What a job would give, from a sample of its input: tokens, size on disk, time, and the share of bad records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tersely.corpus.encode import encode_batch
from tersely.corpus.read import Source
from tersely.pack import Overflow, Strategy, plan
from tersely.tokenize import Tokenizer, id_dtype

_SOURCES = 64
_BATCHES = 4


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Figures for the whole input, extrapolated by stored bytes from the part that was read.

    ``seconds`` is for reading and tokenizing in one process, as measured on the sample.
    """

    sampled_share: float
    documents: int
    bytes: int
    tokens: int
    bytes_per_token: float
    rows: int
    output_bytes: int
    dtype: str
    seconds: float
    bad_share: float


def estimate(
    sources: Sequence[Source],
    tok: Tokenizer,
    *,
    capacity: int,
    strategy: Strategy | str = Strategy.BEST_FIT,
    overflow: Overflow | str = Overflow.SPLIT,
    bos: bool = False,
    eos: bool = True,
) -> Estimate:
    """Reads the first megabytes of up to 64 inputs, evenly chosen, and encodes them; writes nothing.

    The size of standard input is not known: it is read in part, and the figures are those of that part alone.
    """
    eos = eos and tok.eos_id is not None
    step = -(-len(sources) // _SOURCES)
    started = time.perf_counter()
    records = bad = documents = size = read = 0
    lengths: list[np.ndarray] = [np.empty(0, np.int64)]
    for source in list(sources)[::step]:
        source_read = 0
        for batch in islice(source.batches(), _BATCHES):
            encoded = encode_batch(batch, tok, bos, eos)
            records += len(batch.texts) + len(batch.rejected)
            bad += len(batch.rejected) + len(encoded.failed)
            lengths.append(encoded.ids.lengths)
            documents += len(encoded.ids)
            size += encoded.bytes
            source_read = batch.bytes_read
        read += source_read
    seconds = time.perf_counter() - started
    total = sum(source.size for source in sources)
    scale = total / read if total and read else 1.0
    counts = np.concatenate(lengths)
    tokens = int(counts.sum())
    made = plan(counts, capacity, strategy, overflow) if capacity else None
    kept = made.tokens if made else tokens
    width = id_dtype(tok.vocab_size).itemsize
    return Estimate(
        sampled_share=min(1.0, 1 / scale),
        documents=round(documents * scale),
        bytes=round(size * scale),
        tokens=round(tokens * scale),
        bytes_per_token=size / tokens if tokens else 0.0,
        rows=round((len(made.bins) if made else documents) * scale),
        output_bytes=round((kept * width + 20 * documents) * scale),
        dtype=str(id_dtype(tok.vocab_size)),
        seconds=seconds * scale,
        bad_share=bad / records if records else 0.0,
    )
