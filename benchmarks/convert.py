"""How fast is a prepared folder written in other layouts, against a plain copy of as many bytes and the peers' own writers?

python benchmarks/convert.py

One process. A copy, and every file of ours, is waited for until it is on disk; the peers do not wait. The peers (each is
left out where it is not installed) are handed their documents or rows as arrays in memory, one after the other, which is how
they take them; ours are found, put in order and checksummed within the time.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from report import arguments, publish

from tersely import Ragged
from tersely.corpus import Format, convert
from tersely.corpus.formats.documents import documents
from tersely.pack import plan
from tersely.shards import (
    Manifest,
    Packing,
    Shard,
    ShardFolder,
    SourceEntry,
    TokenizerEntry,
    finish_folder,
    write_shard,
)

TOKENS, CAPACITY, VOCABULARY = 1 << 25, 8192, 50_257


def main():
    parser = arguments(__doc__)
    parser.add_argument("--shards", type=int, default=4, help="of 33 million tokens each")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        work = Path(temporary)
        folder = make(work / "prepared", options.shards)
        opened = ShardFolder(folder)
        convert(folder, list(Format), work / "warm")
        rows = []
        for name in Format:
            best, size = float("inf"), 0
            for repeat in range(options.repeats):
                started = time.perf_counter()
                done = convert(folder, [name], work / f"{name}{repeat}")[0]
                best, size = min(best, time.perf_counter() - started), done.size
                largest = max(done.folder.iterdir(), key=lambda path: path.stat().st_size)
                if repeat < options.repeats - 1:
                    shutil.rmtree(work / f"{name}{repeat}")
            copied = copy(largest, work / "copied", options.repeats)
            peer = PEERS.get(name, lambda *_: None)(opened, work / f"peer{name}")
            rows.append(
                {
                    "layout": str(name),
                    "MB/s": size / best / 1e6,
                    "copy MB/s": copied,
                    "of a copy": size / best / 1e6 / copied,
                    "peer MB/s": peer or "-",
                    "times the peer": size / best / 1e6 / peer if peer else "-",
                }
            )
            shutil.rmtree(work / f"{name}{options.repeats - 1}")
    tokens = options.shards * TOKENS
    publish(
        "convert",
        rows,
        f"{tokens:,} tokens as uint16, {opened.manifest.documents:,} documents; the peers on one shard",
    )


def make(folder, shards):
    """Shards of documents of log-normal lengths, packed at 8192."""
    folder.mkdir()
    numbers = np.random.default_rng(0)
    entries = []
    for number in range(shards):
        lengths = np.maximum(1, numbers.lognormal(6, 1.2, TOKENS // 500)).astype(np.int64)
        lengths = lengths[: np.searchsorted(np.cumsum(lengths), TOKENS)]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ids = Ragged(numbers.integers(0, VOCABULARY, offsets[-1], np.uint16), offsets)
        order = plan(lengths, CAPACITY, "best-fit", "split", 0).shuffled(0)
        shard = Shard(
            input_ids=order.gather(ids),
            seq_lengths=order.seq_lengths,
            document_ids=order.documents,
            document_starts=Ragged(order.pieces.start[order.bins.values], order.bins.offsets),
            source_ids=Ragged(np.zeros(len(order.pieces.start), np.int32), order.bins.offsets),
        )
        path = folder / f"data-{number:05d}-00000.arrow"
        entries.append(
            write_shard(path, shard, dtype=np.dtype("uint16"), vocab_size=VOCABULARY, documents=len(lengths))
        )
    count = sum(entry.documents for entry in entries)
    tokenizer = dict(
        spec="made up", fingerprint="", vocab_size=VOCABULARY, bos_id=None, eos_id=None, pad_id=None
    )
    manifest = Manifest(
        tersely="0",
        tokenizer=TokenizerEntry(**tokenizer, bos=False, eos=False),
        packing=Packing(capacity=CAPACITY, strategy="best-fit", overflow="split", seed=0),
        dtype="uint16",
        sources=[
            SourceEntry(name="made up", records_in=count, documents=count, empty=0, quarantined=0, bytes=0)
        ],
        shards=entries,
    )
    finish_folder(folder, manifest)
    return folder


def copy(source, target, repeats):
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        with source.open("rb") as read, target.open("wb") as written:
            shutil.copyfileobj(read, written, 1 << 22)
            written.flush()
            os.fsync(written.fileno())
        best = min(best, time.perf_counter() - started)
        size = target.stat().st_size
        target.unlink()
    return size / best / 1e6


def megatron(opened, out):
    try:
        import torch
        from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
    except ImportError:
        return None
    out.mkdir()
    items = [torch.from_numpy(row.copy()) for row in documents(opened.shards[0])]
    started = time.perf_counter()
    builder = IndexedDatasetBuilder(str(out / "a.bin"), dtype=np.uint16)
    for item in items:
        builder.add_document(item, [len(item)])
    builder.finalize(str(out / "a.idx"))
    return speed(out, started)


def mds(opened, out):
    try:
        from streaming import MDSWriter
    except ImportError:
        return None
    shard = opened.shards[0]
    columns = {"input_ids": "ndarray:uint16", "seq_lengths": "ndarray:int32"}
    items = [
        {"input_ids": ids, "seq_lengths": lengths}
        for ids, lengths in zip(shard.input_ids, shard.seq_lengths, strict=True)
    ]
    started = time.perf_counter()
    with MDSWriter(columns=columns, out=str(out), hashes=["sha1", "xxh3_64"]) as writer:
        for item in items:
            writer.write(item)
    return speed(out, started)


def litdata(opened, out):
    try:
        import torch
        from litdata.streaming.item_loader import TokensLoader
        from litdata.streaming.writer import BinaryWriter
    except ImportError:
        return None
    items = [torch.from_numpy(row.copy()) for row in documents(opened.shards[0])]
    started = time.perf_counter()
    writer = BinaryWriter(str(out), chunk_bytes=1 << 25, item_loader=TokensLoader())
    for number, item in enumerate(items):
        writer[number] = item
    writer.done()
    writer.merge()
    return speed(out, started)


def speed(out, started):
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in out.iterdir())
    shutil.rmtree(out)
    return size / seconds / 1e6


PEERS = {Format.MEGATRON: megatron, Format.MDS: mds, Format.LITDATA: litdata}


if __name__ == "__main__":
    main()
