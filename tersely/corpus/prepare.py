r"""The main job: documents in, packed shards out, every record accounted for.

    sources -> batches of texts -> ids -> (a shard's worth) -> plan -> rows -> data-0000i.arrow
                  \-> quarantine.jsonl                                         manifest.json, at the end

Documents are packed within a shard, so memory is bounded by the shard and not by the corpus.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

import tersely
from tersely.corpus.encode import encode_batch
from tersely.corpus.read import Source
from tersely.errors import CorpusError, UsageError, choose
from tersely.load import load_tokenizer
from tersely.pack import Overflow, Strategy, plan
from tersely.ragged import Ragged
from tersely.shards import Manifest, Packing, ShardWriter, SourceEntry, TokenizerEntry, fields_writer
from tersely.shards.atomic import whole_file
from tersely.shards.fields import FieldsWriter
from tersely.tokenize import SubwordTokenizer, Tokenizer, id_dtype

SHARD_TOKENS = 1 << 26
"""A shard is written once it has this many tokens."""

_KEEPS_ORDER = {Strategy.NEXT_FIT, Strategy.CONCAT}


@dataclass(frozen=True)
class Progress:
    """How far a job is: stored bytes read of ``bytes_total`` (0 if unknown), and what they gave so far."""

    bytes_read: int
    bytes_total: int
    documents: int
    tokens: int
    quarantined: int


def prepare(
    sources: Sequence[Source],
    out: str | Path,
    tokenizer: Tokenizer | str | Path = "bytes",
    *,
    capacity: int = 8192,
    strategy: Strategy | str = Strategy.BEST_FIT,
    overflow: Overflow | str = Overflow.SPLIT,
    seed: int = 0,
    bos: bool = False,
    eos: bool = True,
    shard_tokens: int = SHARD_TOKENS,
    threads: int | None = None,
    allowed_specials: Sequence[str] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> Manifest:
    """Tokenizes and packs documents into a folder that ``datasets.load_from_disk`` and ``PackedDataset`` open.

    Args:
        sources: the inputs, see ``find_sources``.
        out: the folder to make; it must not exist or be empty.
        tokenizer: a tokenizer, or what ``load_tokenizer`` takes (``threads`` and ``allowed_specials`` are for the latter).
        capacity: tokens in a packed row; 0 writes a row for each document.
        strategy: how documents are put into rows, see ``tersely.pack.Strategy``.
        overflow: what happens to a document longer than a row.
        seed: decides the order of rows within a shard (strategies that keep the order of the corpus keep it).
        bos: open each document with the tokenizer's bos id.
        eos: close each document with its eos id, if it has one.
        shard_tokens: a shard is written once it has this many tokens.
        threads: how many threads tokenize, by default one for each processor; the folder does not depend on it.
        allowed_specials: special tokens that text may spell, see ``load_tokenizer``.
        on_progress: called after every batch.

    Returns:
        The manifest. The folder also has ``quarantine.jsonl``, one line for each record that is no document, and, if
        a source gives fields, ``documents.arrow``, one row for each document.

    Raises:
        CorpusError: the folder is in use, or an input cannot be opened.
        UsageError: an argument is not allowed, such as ``bos`` for a tokenizer without that id.
    """
    tok, spec = _tokenizer(tokenizer, threads, allowed_specials)
    if bos and tok.bos_id is None:
        raise UsageError(f"the tokenizer {spec} has no bos id: leave --bos out")
    eos = eos and tok.eos_id is not None
    if capacity < 0 or shard_tokens < 1:
        raise UsageError(f"capacity {capacity} and shard_tokens {shard_tokens} must not be negative")
    plan([], capacity or 1, strategy, overflow, seed)  # refuses what it cannot do before anything is written
    packing = Packing(
        capacity=capacity, strategy=choose(Strategy, strategy), overflow=choose(Overflow, overflow), seed=seed
    )
    out = _claim(Path(out))
    tok.save(out / "tokenizer")
    writer = ShardWriter(out, id_dtype(tok.vocab_size), tok.vocab_size)
    job = _Job(tok, bos, eos, _Rows(writer, packing, shard_tokens), sum(source.size for source in sources))
    names = list(dict.fromkeys(name for source in sources for name in source.fields))
    with (
        whole_file(out / "quarantine.jsonl") as temporary,
        temporary.open("w", encoding="utf-8") as quarantine,
        fields_writer(out, names) as fields,
    ):
        entries = [job.run(source, quarantine, fields, on_progress) for source in sources]
        job.rows.flush(last=True)
    manifest = Manifest(
        tersely=tersely.__version__,
        tokenizer=TokenizerEntry(
            spec=spec,
            fingerprint=tok.fingerprint,
            vocab_size=tok.vocab_size,
            bos_id=tok.bos_id,
            eos_id=tok.eos_id,
            pad_id=tok.pad_id,
            bos=bos,
            eos=eos,
        ),
        packing=packing,
        dtype=str(writer.dtype),
        sources=entries,
        **job.rows.waste,
    )
    return writer.finish(manifest)


def _tokenizer(
    given: Tokenizer | str | Path, threads: int | None, allowed_specials: Sequence[str]
) -> tuple[Tokenizer, str]:
    """The tokenizer, ready for a new job, and what the manifest calls it."""
    if isinstance(given, str | Path):
        tok = load_tokenizer(given, threads=threads, allowed_specials=allowed_specials or None)
    else:
        tok = given
    if isinstance(tok, SubwordTokenizer):
        tok.new_job()
    return tok, str(given) if isinstance(given, str | Path) else type(given).__name__


def _claim(out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        finished, ours = (out / "manifest.json").exists(), (out / "tokenizer").exists()
        held = "a finished corpus" if finished else "an unfinished run" if ours else "other files"
        raise CorpusError(f"{out} is not empty (it holds {held}): choose another --out, or remove it first")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{out} cannot be made: {error.strerror}") from error
    return out


class _Job:
    """Reads sources one after another and hands their ids to ``rows``."""

    def __init__(self, tok: Tokenizer, bos: bool, eos: bool, rows: _Rows, bytes_total: int) -> None:
        self.tok, self.bos, self.eos, self.rows, self.bytes_total = tok, bos, eos, rows, bytes_total
        self.bytes_before = self.quarantined = 0

    def run(
        self,
        source: Source,
        quarantine: IO[str],
        fields: FieldsWriter | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> SourceEntry:
        """Takes all records of ``source``."""
        records = documents = empty = rejected = size = repaired = 0
        complete = True
        for batch in source.batches():
            encoded = encode_batch(batch, self.tok, self.bos, self.eos)
            self.rows.add(encoded.ids)
            if fields is not None:
                kept = {name: [values[i] for i in encoded.kept] for name, values in batch.fields.items()}
                fields.add(kept, len(encoded.kept))
            rejects = sorted(
                [*batch.rejected, *encoded.failed], key=lambda reject: (reject.line, reject.byte)
            )
            for reject in rejects:
                line = {"source": source.name, **asdict(reject)}
                quarantine.write(json.dumps(line, ensure_ascii=True) + "\n")
            records += len(batch.texts) + len(batch.rejected)
            rejected += len(rejects)
            documents += len(encoded.ids)
            empty += encoded.empty
            size += encoded.bytes
            repaired += batch.repaired
            complete = complete and batch.complete
            self.quarantined += len(rejects)
            if on_progress:
                read = self.bytes_before + batch.bytes_read
                on_progress(
                    Progress(read, self.bytes_total, self.rows.documents, self.rows.tokens, self.quarantined)
                )
        self.bytes_before += source.size
        return SourceEntry(
            name=source.name,
            records_in=records,
            documents=documents,
            empty=empty,
            quarantined=rejected,
            bytes=size,
            repaired=repaired,
            complete=complete,
        )


class _Rows:
    """Collects ids until there are enough for a shard, then packs and writes it."""

    def __init__(self, writer: ShardWriter, packing: Packing, shard_tokens: int) -> None:
        self.writer, self.packing, self.shard_tokens = writer, packing, shard_tokens
        self.documents = self.tokens = 0
        self.waste = dict.fromkeys(
            ("truncated_tokens", "dropped_documents", "dropped_tokens", "split_documents"), 0
        )
        self._waiting: list[Ragged] = []
        self._waiting_tokens = 0

    def add(self, ids: Ragged) -> None:
        """Takes the next documents."""
        self._waiting.append(ids)
        self._waiting_tokens += len(ids.values)
        self.tokens += len(ids.values)
        self.documents += len(ids)
        if self._waiting_tokens >= self.shard_tokens:
            self.flush()

    def flush(self, last: bool = False) -> None:
        """Writes what waits as a shard; at the end also an empty one, if there was nothing at all."""
        if not self._waiting_tokens and not (last and not self.writer.shards):
            return
        ids = Ragged.concat([*self._waiting, Ragged(np.empty(0, self.writer.dtype), [0])])
        first = self.documents - len(ids)
        self._waiting, self._waiting_tokens = [], 0
        if not self.packing.capacity:
            pieces = np.arange(len(ids) + 1)
            lengths = Ragged(ids.lengths.astype(np.int32), pieces)
            self.writer.write(
                ids, lengths, Ragged(pieces[:-1] + first, pieces), Ragged(0 * pieces[:-1], pieces)
            )
            return
        made = plan(
            ids.lengths,
            self.packing.capacity,
            self.packing.strategy,
            self.packing.overflow,
            self.packing.seed,
        )
        for name in self.waste:
            self.waste[name] += getattr(made.waste, name)
        if made.strategy not in _KEEPS_ORDER:
            made = made.shuffled(self.packing.seed + len(self.writer.shards))
        starts = Ragged(made.pieces.start[made.bins.values], made.bins.offsets)
        documents = Ragged(made.documents.values + first, made.bins.offsets)
        self.writer.write(made.gather(ids), made.seq_lengths, documents, starts)
