"""Prepared folders made by hand, and readers of other layouts written from tersely/corpus/formats/README.md alone."""

import json
import struct

import numpy as np

from tersely import Ragged
from tersely.pack import plan
from tersely.shards import (
    IGNORED,
    Manifest,
    Packing,
    Shard,
    SourceEntry,
    TokenizerEntry,
    finish_folder,
    write_shard,
)


def write_prepared(folder, shards, dtype="uint16", capacity=8, trained=None, vocab_size=None):
    """A prepared folder with these documents (lists of ids) in each shard; ``trained`` has a bool for each id of each."""
    folder.mkdir(parents=True)
    entries = []
    vocab_size = vocab_size or np.iinfo(dtype).max + 1
    for number, documents in enumerate(shards):
        ids = Ragged.from_rows([np.array(document, dtype) for document in documents], dtype)
        order = plan(ids.lengths, capacity, "best-fit", "split", 0)
        if trained is not None:
            flags = Ragged.from_rows([np.array(flag, bool) for flag in trained[number]], bool)
        offsets = order.bins.offsets
        rows = order.gather(ids)
        labels = None
        if trained is not None:
            kept = np.where(order.gather(flags).values, rows.values.astype(np.int32), np.int32(IGNORED))
            labels = Ragged(kept, rows.offsets)
        shard = Shard(
            input_ids=rows,
            seq_lengths=order.seq_lengths,
            document_ids=order.documents,
            document_starts=Ragged(order.pieces.start[order.bins.values], offsets),
            source_ids=Ragged(np.zeros(len(order.pieces.start), np.int32)[order.bins.values], offsets),
            labels=labels,
        )
        path = folder / f"data-{number:05d}-00000.arrow"
        entries.append(
            write_shard(path, shard, dtype=np.dtype(dtype), vocab_size=vocab_size, documents=len(documents))
        )
    count = sum(map(len, shards))
    finish_folder(folder, _manifest(entries, dtype, capacity, vocab_size, count, trained is not None))
    return folder


def _manifest(entries, dtype, capacity, vocab_size, documents, labels):
    counts = dict(records_in=documents, documents=documents, empty=0, quarantined=0, bytes=0)
    return Manifest(
        tersely="0",
        tokenizer=TokenizerEntry(
            spec="made up",
            fingerprint="f",
            vocab_size=vocab_size,
            bos_id=None,
            eos_id=1,
            pad_id=None,
            bos=False,
            eos=True,
        ),
        packing=Packing(capacity=capacity, strategy="best-fit", overflow="split", seed=0),
        dtype=dtype,
        columns=["labels"] if labels else [],
        sources=[SourceEntry(name="made up", **counts)],
        shards=entries,
    )


def read_megatron(prefix):
    """The sequences of ``prefix.bin`` as the index says where they are, and its list of documents."""
    index = prefix.with_suffix(".idx").read_bytes()
    magic, version, code, sequences, documents = struct.unpack_from("<9sQBQQ", index)
    assert (magic, version) == (b"MMIDIDX\0\0", 1)
    dtype = {1: np.uint8, 4: np.int32, 8: np.uint16}[code]
    assert len(index) == 34 + 12 * sequences + 8 * documents
    lengths = np.frombuffer(index, "<i4", sequences, 34)
    pointers = np.frombuffer(index, "<i8", sequences, 34 + 4 * sequences)
    first = np.frombuffer(index, "<i8", documents, 34 + 12 * sequences)
    content = prefix.with_suffix(".bin").read_bytes()
    assert len(content) == lengths.sum() * np.dtype(dtype).itemsize
    rows = [np.frombuffer(content[at:], dtype, length) for at, length in zip(pointers, lengths, strict=True)]
    return rows, first.tolist()


def read_memmap(folder, name="tokens"):
    """The documents of ``tokens.bin``."""
    meta = json.loads((folder / "meta.json").read_text())
    values = np.fromfile(folder / f"{name}.bin", meta["dtype"] if name == "tokens" else "<i4")
    offsets = np.load(folder / "offsets.npy")
    assert (offsets[0], offsets[-1]) == (0, len(values))
    assert (meta["tokens"], meta["documents"]) == (len(values), len(offsets) - 1)
    return np.split(values, offsets[1:-1]) if len(offsets) > 1 else []


def read_mds(folder):
    """The samples of all shards, as dictionaries of arrays."""
    samples = []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        content = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(content) == shard["raw_data"]["bytes"]
        (count,) = struct.unpack_from("<I", content)
        assert count == shard["samples"]
        offsets = np.frombuffer(content, "<u4", count + 1, 4)
        told = json.loads(content[4 * (count + 2) : offsets[0]])
        assert told.items() <= shard.items()
        samples += [_mds_sample(content[a:b], told) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        assert offsets[-1] == len(content)
    return samples


def _mds_sample(content, told):
    names = told["column_names"]
    sizes = struct.unpack_from(f"<{len(names)}I", content)
    place, sample = 4 * len(names), {}
    for name, kind, size in zip(names, told["column_encodings"], sizes, strict=True):
        part = content[place : place + size]
        width = 1 << (part[0] & 3)
        assert part[0] >> 2 == 1  # one axis
        length = int.from_bytes(part[1 : 1 + width], "little")
        assert length >> 8 * (width // 2) or width == 1  # no wider than it has to be
        sample[name] = np.frombuffer(part[1 + width :], kind.removeprefix("ndarray:"))
        assert len(sample[name]) == length
        place += size
    assert place == len(content)
    return sample


def read_litdata(folder):
    """The items of all chunks."""
    index = json.loads((folder / "index.json").read_text())
    name, code = index["config"]["data_format"][0].split(":")
    assert name == "no_header_tensor"
    dtype = {"11": np.uint8, "16": np.int32, "20": np.uint16}[code]
    items = []
    for chunk in index["chunks"]:
        content = (folder / chunk["filename"]).read_bytes()
        (count,) = struct.unpack_from("<I", content)
        offsets = np.frombuffer(content, "<u4", count + 1, 4)
        assert (count, len(content)) == (chunk["chunk_size"], chunk["chunk_bytes"])
        assert (offsets[0], offsets[-1]) == (4 * (count + 2), len(content))
        found = [np.frombuffer(content[a:b], dtype) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        assert sum(map(len, found)) == chunk["dim"]
        items += found
    return items
