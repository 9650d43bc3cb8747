"""Prepared folders made directly of documents, with what a reader of files would not give: labels, drops, any shards."""

import json

import numpy as np

from tersely.corpus.encode import Encoded
from tersely.corpus.job.rows import WASTE, Rows
from tersely.ragged import Ragged
from tersely.shards import Manifest, Packing, SourceEntry, TokenizerEntry, finish_folder, write_shard
from tersely.tokenize import ByteTokenizer, WordTokenizer


def make_folder(
    path,
    shards,
    *,
    names=("only",),
    capacity=64,
    strategy="best-fit",
    overflow="split",
    trained=None,
    words=False,
    rejects=(),
    command="",
):
    """Byte tokens and an eos. ``shards`` are lists of (number of a source, text); ``trained`` says, for the bytes of a text,
    which of them are trained on (its eos is as its last byte); ``rejects`` are lines of the quarantine.
    """
    path.mkdir()
    tok = WordTokenizer() if words else ByteTokenizer()
    tok.save(path / "tokenizer")
    packing = Packing(capacity=capacity, strategy=strategy, overflow=overflow, seed=0)
    entries, waste = [], dict.fromkeys(WASTE, 0)
    for number, documents in enumerate(shards):
        rows = Rows(packing, (), trained is not None)
        for source, text in documents:
            ids = tok.encode([text], eos=True)
            flags = None
            if trained is not None:
                row = list(trained(text))
                flags = Ragged(np.array([*row, row[-1]], np.bool_), ids.offsets)
            rows.add(Encoded(ids, [0], len(text), 0, [], flags), source, {})
        shard, lost = rows.shard(tok, ids_dtype(tok), number, words)
        waste = {name: waste[name] + more for name, more in zip(WASTE, lost, strict=True)}
        entries.append(
            write_shard(
                path / f"data-00000-{number:05}.arrow",
                shard,
                dtype=ids_dtype(tok),
                vocab_size=tok.vocab_size,
                documents=rows.documents,
            )
        )
    with (path / "quarantine.jsonl").open("w") as file:
        file.writelines(json.dumps(reject) + "\n" for reject in rejects)
    manifest = Manifest(
        tersely="0",
        command=command,
        tokenizer=TokenizerEntry(
            spec="words" if words else "bytes",
            fingerprint=tok.fingerprint,
            vocab_size=tok.vocab_size,
            bos_id=tok.bos_id,
            eos_id=tok.eos_id,
            pad_id=tok.pad_id,
            bos=False,
            eos=True,
        ),
        packing=packing,
        dtype=str(ids_dtype(tok)),
        columns=["labels"] * (trained is not None) + ["word_lengths"] * words,
        sources=[_source(name, number, shards, rejects) for number, name in enumerate(names)],
        shards=entries,
        **waste,
    )
    finish_folder(path, manifest)
    return path


def ids_dtype(tok):
    """What ids of this tokenizer are stored as."""
    return tok.encode(["a"]).values.dtype


def _source(name, number, shards, rejects):
    texts = [text for documents in shards for source, text in documents if source == number]
    quarantined = sum(reject["source"] == name for reject in rejects)
    return SourceEntry(
        name=name,
        records_in=len(texts) + quarantined,
        documents=len(texts),
        empty=0,
        quarantined=quarantined,
        bytes=sum(map(len, texts)),
        complete=number % 7 != 6,
    )
