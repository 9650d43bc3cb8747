"""The libraries that other trainers read with open what we write. Each test needs its library, and is skipped without it."""

import numpy as np
import pytest
from foreign import read_memmap, write_prepared

from tersely.corpus import convert
from tersely.shards import ShardFolder

ALONE = "does not install beside this project's pinned packages: install it in an environment of its own"
CORPORA = {
    "uint8": dict(dtype="uint8", capacity=8),
    "uint16": dict(dtype="uint16", capacity=300),
    "uint32": dict(dtype="uint32", capacity=4),
}


@pytest.fixture(params=CORPORA)
def prepared(tmp_path, request):
    """Two shards of 40 documents each, split over rows, with labels."""
    numbers = np.random.default_rng(0)
    most = min(np.iinfo(CORPORA[request.param]["dtype"]).max, 2**31 - 1)
    shards = [
        [numbers.integers(0, most, 1 + 7 * i % 23, endpoint=True).tolist() for i in range(40)]
        for _ in range(2)
    ]
    trained = [[[i % 3 > 0 for i in document] for document in shard] for shard in shards]
    return write_prepared(tmp_path / "prepared", shards, trained=trained, **CORPORA[request.param])


def every_document(folder, column="input_ids"):
    lengths = folder.document_lengths.tolist()
    return [folder.tokens(i, 0, length, column).tolist() for i, length in enumerate(lengths)]


def test_megatron_core_reads_every_document(prepared):
    reader = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is missing")
    convert(prepared, ["megatron"])
    for name, column in (("tokens", "input_ids"), ("labels", "labels")):
        found = reader.IndexedDataset(str(prepared / "megatron" / name), mmap=True)
        assert [found[i].tolist() for i in range(len(found))] == every_document(ShardFolder(prepared), column)
        assert found.document_indices.tolist() == list(range(len(found) + 1))


def test_mosaicml_streaming_reads_every_row_and_finds_the_hashes_right(prepared):
    streaming = pytest.importorskip("streaming", reason=f"mosaicml-streaming {ALONE}")
    folder = convert(prepared, ["mds"])[0].folder
    columns = [shard.columns for shard in ShardFolder(prepared).shards]
    for hash_name in ("sha1", "xxh3_64"):
        found = list(
            streaming.StreamingDataset(
                local=str(folder), shuffle=False, batch_size=1, validate_hash=hash_name
            )
        )
        for name in ("input_ids", "labels", "seq_lengths"):
            stored = [row.tolist() for shard in columns for row in shard[name]]
            assert [sample[name].tolist() for sample in found] == stored
            assert {sample[name].dtype for sample in found} == {columns[0][name].values.dtype}


def test_litdata_reads_blocks_of_all_tokens(prepared):
    litdata = pytest.importorskip("litdata", reason=f"litdata {ALONE}")
    for column in ("input_ids", "labels"):
        folder = convert(prepared, ["litdata"])[0].folder / ("labels" if column == "labels" else "")
        loader = litdata.TokensLoader(block_size=17)
        found = litdata.StreamingDataset(str(folder), item_loader=loader, shuffle=False)
        opened = ShardFolder(prepared)
        blocks = []
        for shard, first in zip(opened.shards, opened.manifest.first_documents, strict=True):
            documents = every_document(opened, column)[first : first + 40]
            tokens = [token for document in documents for token in document]
            assert len(tokens) == len(shard.input_ids.values)
            blocks += [tokens[at : at + 17] for at in range(0, len(tokens) - 16, 17)]
        assert [found[i].tolist() for i in range(len(found))] == blocks


def test_numpy_and_torch_map_the_flat_file(prepared):
    import torch

    folder = convert(prepared, ["memmap"])[0].folder
    kind = ShardFolder(prepared).manifest.dtype
    mapped = np.memmap(folder / "tokens.bin", dtype=kind, mode="r")
    offsets = np.load(folder / "offsets.npy", mmap_mode="r")
    expected = every_document(ShardFolder(prepared))
    assert [mapped[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)] == expected
    assert [row.tolist() for row in read_memmap(folder)] == expected
    tensor = torch.from_file(str(folder / "tokens.bin"), size=len(mapped), dtype=getattr(torch, kind))
    assert tensor.tolist() == [token for document in expected for token in document]
