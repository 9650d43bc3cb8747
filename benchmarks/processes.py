"""What do many processes cost that read one folder of many small documents: memory of all, and the wait for a row?

python benchmarks/processes.py

Processes that share nothing, as ranks do, open a folder of 4 million documents of 60 tokens and read 500 rows each, of
4096 tokens. "for itself": each plans and holds its rows; "mapped": one file of the folder's is mapped by all. MB are
proportional (shared pages are counted once) and above those of the same process before it opened the folder; "pages of
ids" are the mapped shards, which the system takes back when it needs them.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
from report import arguments, missing, publish

from tersely.pack import plan
from tersely.ragged import Ragged
from tersely.shards import (
    Manifest,
    Packing,
    Shard,
    SourceEntry,
    TokenizerEntry,
    finish_folder,
    write_shard,
)

SHARDS, DOCUMENTS, TOKENS = 8, 500_000, 60
PROCESSES = 4


def main():
    arguments(__doc__).parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        missing("/proc/self/smaps_rollup (Linux)")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_folder(Path(temporary) / "out")
        for how, shared in (("for itself", False), ("mapped, first time", True), ("mapped", True)):
            rows.append({"rows": how} | together(folder, shared))
    publish("processes", rows, f"{PROCESSES} processes, {SHARDS * DOCUMENTS:,} documents")


def together(folder, shared):
    context = multiprocessing.get_context("spawn")
    ready, found = context.Barrier(PROCESSES), context.Queue()
    processes = [context.Process(target=read, args=(folder, shared, ready, found)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    results = [found.get() for _ in processes]
    for process in processes:
        process.join()
    result = {name: sum(one[name] for one in results) for name in ("MB of all", "pages of ids")}
    result["peak MB of one"] = max(one["peak"] for one in results)
    result["first row s"] = max(one["first"] for one in results)
    return result | {"million tokens/s of one": sum(one["speed"] for one in results) / PROCESSES}


def read(folder, shared, ready, found):
    import resource

    from tersely.pack import PackedDataset, loader

    if not shared:
        loader._SHARED_FROM = 1 << 62
    plan(np.arange(1, 100), 4096)
    ready.wait()
    before, peak_before = memory("Pss"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    started = time.perf_counter()
    rows = iter(PackedDataset(folder, capacity=4096))
    next(rows)
    first = time.perf_counter() - started
    started = time.perf_counter()
    tokens = sum(len(next(rows)["input_ids"]) for _ in range(500))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    ready.wait()
    ids = memory("Pss", "data-")
    used = {"MB of all": memory("Pss") - before - ids, "pages of ids": ids}
    ready.wait()
    found.put(used | {"peak": peak - peak_before, "first": first, "speed": tokens / seconds / 1e6})


def memory(kind, of=""):
    """Megabytes of this process, or of its mappings with ``of`` in their names."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            counts = of in line
        elif counts and name == f"{kind}:":
            total += int(rest[0])
    return total / 1e3


def make_folder(folder):
    folder.mkdir()
    rng, entries = np.random.default_rng(0), []
    for number in range(SHARDS):
        lengths = rng.geometric(1 / TOKENS, DOCUMENTS)
        ids = Ragged(
            rng.integers(3, 259, lengths.sum(), np.uint16), np.concatenate([[0], np.cumsum(lengths)])
        )
        packed = plan(lengths, 2048).shuffled(number)
        order, offsets = packed.bins.values, packed.bins.offsets
        shard = Shard(
            input_ids=packed.gather(ids),
            seq_lengths=packed.seq_lengths,
            document_ids=packed.documents,
            document_starts=Ragged(packed.pieces.start[order], offsets),
            source_ids=Ragged(np.zeros(len(order), np.int32), offsets),
        )
        options = dict(dtype=np.dtype(np.uint16), vocab_size=384, documents=DOCUMENTS)
        entries.append(write_shard(folder / f"data-00000-{number:05d}.arrow", shard, **options))
    total = SHARDS * DOCUMENTS
    counts = dict(records_in=total, documents=total, empty=0, quarantined=0, bytes=0)
    ids = dict(vocab_size=384, bos_id=None, eos_id=1, pad_id=0, bos=False, eos=False)
    manifest = Manifest(
        tersely="0",
        tokenizer=TokenizerEntry(spec="bytes", fingerprint="0" * 64, **ids),
        packing=Packing(capacity=2048, strategy="best-fit", overflow="split", seed=0),
        dtype="uint16",
        sources=[SourceEntry(name="numbers", **counts)],
        shards=entries,
    )
    finish_folder(folder, manifest)
    return folder


if __name__ == "__main__":
    main()
