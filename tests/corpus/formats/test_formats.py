"""Foreign layouts: every one gives back the documents, whatever they are, and a stopped conversion is none."""

import fcntl
import hashlib
import json
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xxhash
from foreign import read_litdata, read_mds, read_megatron, read_memmap, write_prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.corpus import Format, convert
from tersely.corpus.formats import mds, verify_conversions
from tersely.corpus.formats.documents import cuts, document_lengths, documents
from tersely.errors import CorpusError, ShardError, UsageError
from tersely.shards import IGNORED, ShardFolder, verify

FORMATS = list(Format)


@pytest.fixture(autouse=True, scope="module")
def _memory_for_a_disk():
    """Hundreds of small folders are written here: waiting for the disk each time would take most of a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def lists(rows):
    return [row.tolist() for row in rows]


@st.composite
def corpora(draw):
    """The dtype, documents for each shard (some split over rows, some empty), and what is trained, or None."""
    dtype = draw(st.sampled_from(["uint8", "uint16", "uint32"]))
    most = 2**31 - 1 if dtype == "uint32" else int(np.iinfo(dtype).max)
    document = st.lists(st.integers(0, most) | st.just(most), min_size=1, max_size=30)
    shards = draw(st.lists(st.lists(document, max_size=5), min_size=1, max_size=3))
    trained = [[[draw(st.booleans()) for _ in ids] for ids in shard] for shard in shards]
    return dtype, shards, trained if draw(st.booleans()) else None


@settings(max_examples=60)
@given(corpus=corpora(), capacity=st.sampled_from([1, 4, 8, 300]))
def test_every_layout_gives_back_the_documents(corpus, capacity):
    dtype, shards, trained = corpus
    expected = [ids for shard in shards for ids in shard]
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_prepared(Path(temporary) / "prepared", shards, dtype, capacity, trained)
        convert(folder, FORMATS)
        sequences, first = read_megatron(folder / "megatron" / "tokens")
        assert lists(sequences) == expected
        assert first == list(range(len(expected) + 1))
        assert lists(read_memmap(folder / "memmap")) == expected
        assert lists(read_litdata(folder / "litdata")) == expected
        samples = read_mds(folder / "mds")
        stored = [shard.columns for shard in ShardFolder(folder).shards]
        for name in ("input_ids", "seq_lengths", *(["labels"] if trained else [])):
            assert lists(sample[name] for sample in samples) == [
                row for columns in stored for row in columns[name].to_list()
            ]
        if trained is not None:
            flags = [flag for shard in trained for flag in shard]
            labels = [
                [i if on else IGNORED for i, on in zip(ids, flag, strict=True)]
                for ids, flag in zip(expected, flags, strict=True)
            ]
            assert lists(read_megatron(folder / "megatron" / "labels")[0]) == labels
            assert lists(read_memmap(folder / "memmap", "labels")) == labels
            assert lists(read_litdata(folder / "litdata" / "labels")) == labels
        assert all(fault is None for _, fault in [*verify(folder), *verify_conversions(folder)])


@given(corpus=corpora(), capacity=st.integers(1, 40))
@settings(max_examples=25)
def test_documents_of_a_shard_are_those_the_folder_reads_one_by_one(corpus, capacity):
    dtype, shards, trained = corpus
    with tempfile.TemporaryDirectory() as temporary:
        folder = ShardFolder(write_prepared(Path(temporary) / "p", shards, dtype, capacity, trained))
        lengths = folder.document_lengths
        for column in ("input_ids", "labels") if trained else ("input_ids",):
            found = [row for shard in folder.shards for row in documents(shard, column)]
            slow = [folder.tokens(i, 0, int(length), column) for i, length in enumerate(lengths)]
            assert lists(found) == lists(slow)
        assert (
            np.concatenate([document_lengths(shard) for shard in folder.shards]).tolist() == lengths.tolist()
        )


def test_documents_that_were_dropped_are_in_no_layout_and_empty_ones_are_in_all(tmp_path, write_jsonl):
    from tersely.corpus import find_sources, prepare

    sources, _ = find_sources([write_jsonl([{"text": "ab"}, {"text": "x" * 50}, {"text": "c"}])])
    prepare(sources, tmp_path / "p", "bytes", capacity=16, overflow="drop")
    convert(tmp_path / "p", FORMATS)
    expected = [[100, 101, 1], [102, 1]]
    assert lists(read_megatron(tmp_path / "p/megatron/tokens")[0]) == expected
    assert lists(read_memmap(tmp_path / "p/memmap")) == expected
    assert lists(read_litdata(tmp_path / "p/litdata")) == expected
    assert [sorted(sample) for sample in read_mds(tmp_path / "p/mds")] == [["input_ids", "seq_lengths"]]


@pytest.mark.parametrize("name", FORMATS)
def test_a_corpus_without_documents_has_every_layout(tmp_path, name):
    folder = write_prepared(tmp_path / "p", [[]])
    done = convert(folder, [name])[0]
    assert done.written
    read = {
        Format.MEGATRON: lambda: read_megatron(folder / "megatron" / "tokens")[0],
        Format.MEMMAP: lambda: read_memmap(folder / "memmap"),
        Format.MDS: lambda: read_mds(folder / "mds"),
        Format.LITDATA: lambda: read_litdata(folder / "litdata"),
    }[name]
    assert read() == []


@pytest.mark.parametrize("name", [Format.MEGATRON, Format.LITDATA])
def test_ids_above_31_bits_are_refused_where_the_layout_has_int32_only(tmp_path, name):
    folder = write_prepared(tmp_path / "p", [[[2**31 - 1, 2**31]]], "uint32")
    with pytest.raises(UsageError, match="2147483648 is above"):
        convert(folder, [name])
    assert not list((folder / name).iterdir())
    convert(folder, ["memmap", "mds"])
    assert lists(read_memmap(folder / "memmap")) == [[2**31 - 1, 2**31]]


@pytest.mark.parametrize("capacity", [255, 256, 65_535, 65_536])
def test_mds_writes_the_length_of_an_array_as_narrow_as_it_goes(tmp_path, capacity):
    folder = write_prepared(tmp_path / "p", [[list(range(5)) * 26_214]], "uint8", capacity)
    convert(folder, ["mds"])
    assert {len(sample["input_ids"]) for sample in read_mds(folder / "mds")} >= {capacity}


def test_mds_shards_stay_below_their_limit_and_a_larger_row_is_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(mds, "_SIZE_LIMIT", 600)
    rows = [[1] * 20] * 12 + [[2] * 500] + [[3] * 20] * 3
    folder = write_prepared(tmp_path / "p", [rows], capacity=500)
    convert(folder, ["mds"])
    shards = json.loads((folder / "mds" / "index.json").read_text())["shards"]
    sizes = [(shard["samples"], shard["raw_data"]["bytes"]) for shard in shards]
    assert len(sizes) > 1
    assert all(size <= 600 or samples == 1 for samples, size in sizes)
    assert sum(samples for samples, _ in sizes) == len(read_mds(folder / "mds"))
    for shard in shards:
        content = (folder / "mds" / shard["raw_data"]["basename"]).read_bytes()
        hashes = {"sha1": hashlib.sha1(content).hexdigest(), "xxh3_64": xxhash.xxh3_64_hexdigest(content)}
        assert shard["raw_data"]["hashes"] == hashes


def test_offsets_beyond_32_bits_are_refused_by_mds(tmp_path, monkeypatch):
    monkeypatch.setattr(mds, "_MOST", 100)
    with pytest.raises(UsageError, match="smaller --pack"):
        convert(write_prepared(tmp_path / "p", [[[1] * 100]], capacity=100), ["mds"])


@given(st.lists(st.integers(0, 20)), st.integers(1, 40))
def test_cuts_are_the_greedy_ones(sizes, most):
    greedy, held = [], most + 1
    for size in sizes:
        if held + size > most:
            greedy, held = [*greedy, []], 0
        greedy[-1].append(size)
        held += size
    assert [sizes[a:b] for a, b in cuts(np.array(sizes, np.int64), most)] == greedy


def test_golden_bytes(tmp_path):
    """Any change of these is one of the layout."""
    folder = write_prepared(tmp_path / "p", [[[7, 8, 9], [300]]], capacity=2)
    convert(folder, FORMATS)
    tokens = struct.pack("<4H", 7, 8, 9, 300)
    assert (folder / "megatron/tokens.bin").read_bytes() == tokens
    assert (folder / "memmap/tokens.bin").read_bytes() == tokens
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ 2i 2q 3q", 1, 8, 2, 3, 3, 1, 0, 6, 0, 1, 2)
    assert (folder / "megatron/tokens.idx").read_bytes() == index
    assert (folder / "litdata/chunk-0-0.bin").read_bytes() == struct.pack("<4I", 2, 16, 22, 24) + tokens
    assert (folder / "mds/index.json").exists()


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_folder_gives_the_same_bytes_and_what_is_finished_is_left_alone(tmp_path, corpus):
    first = convert(corpus, FORMATS, tmp_path / "one")
    assert [one.written for one in first] == [True] * 4
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")}
    again = convert(corpus, FORMATS, tmp_path / "one")
    assert [one.written for one in again] == [False] * 4
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")}
    assert [(one.files, one.size) for one in first] == [(one.files, one.size) for one in again]
    convert(corpus, FORMATS, tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize("name", FORMATS)
def test_a_conversion_stopped_at_any_file_leaves_no_index_and_is_made_again(tmp_path, monkeypatch, name):
    folder = write_prepared(tmp_path / "p", [[[7, 8], [9]], [[4] * 9]], trained=[[[1, 0], [1]], [[0] * 9]])
    whole = content(convert(folder, [name], tmp_path / "whole")[0].folder)
    last = {"megatron": "tokens.idx", "memmap": "meta.json", "mds": "index.json", "litdata": "index.json"}[
        name
    ]
    real, stops = os.fsync, 0
    for allowed in range(100):
        left = allowed

        def fsync(descriptor):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            real(descriptor)

        out = tmp_path / f"stopped{allowed}"
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            convert(folder, [name], out)
        except KeyboardInterrupt:
            stops += 1
        else:
            break
        finally:
            monkeypatch.setattr(os, "fsync", real)
        found = content(out / name)
        rest = {path: raw for path, raw in whole.items() if path.name != "tersely.json"}
        if Path(last) in found:
            assert rest.items() <= found.items()
        if found != whole:
            (out / name / ".tmp-0").write_bytes(b"of a process that was killed")
        assert convert(folder, [name], out)[0].written is (found != whole)
        assert content(out / name) == whole
    assert stops > 4


def test_folders_of_something_else_are_refused_and_stay_as_they_are(tmp_path, corpus):
    (tmp_path / "out" / "mds").mkdir(parents=True)
    (tmp_path / "out" / "mds" / "index.json").write_text("{}")
    with pytest.raises(CorpusError, match="holds other files"):
        convert(corpus, ["mds"], tmp_path / "out")
    assert content(tmp_path / "out") == {Path("mds/index.json"): b"{}"}
    convert(corpus, ["memmap"], tmp_path / "out")
    other = write_prepared(tmp_path / "other", [[[1]]])
    with pytest.raises(CorpusError, match="another corpus"):
        convert(other, ["memmap"], tmp_path / "out")
    (tmp_path / "out" / "memmap" / "tokens.bin").unlink()
    with pytest.raises(CorpusError, match=r"tokens.bin is missing"):
        convert(corpus, ["memmap"], tmp_path / "out")


def test_two_conversions_into_one_folder_do_not_meet(tmp_path, corpus):
    (tmp_path / "memmap").mkdir()
    descriptor = os.open(tmp_path / "memmap", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(CorpusError, match="written by another process"):
        convert(corpus, ["memmap"], tmp_path)
    os.close(descriptor)
    assert convert(corpus, ["memmap"], tmp_path)[0].written


def test_what_cannot_be_converted_says_why(tmp_path, corpus):
    with pytest.raises(UsageError, match="no format 'npz'"):
        convert(corpus, ["npz"])
    with pytest.raises(UsageError, match="no format is named"):
        convert(corpus, [])
    (corpus / "manifest.json").unlink()
    with pytest.raises(ShardError, match="unfinished"):
        convert(corpus, ["mds"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ShardError):
        convert(tmp_path / "file", ["mds"])


@pytest.mark.parametrize("name", FORMATS)
def test_verify_finds_a_changed_byte_in_every_file(corpus, name):
    folder = convert(corpus, [name])[0].folder
    assert [fault for _, fault in verify_conversions(corpus)] == [None] * len(
        list(verify_conversions(corpus))
    )
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name != "tersely.json"]:
        raw = path.read_bytes()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        faults = [fault for _, fault in verify_conversions(corpus) if fault]
        assert len(faults) == 1
        assert str(path) in faults[0]
        path.write_bytes(raw)


def test_verify_finds_unfinished_and_outdated_conversions(tmp_path, corpus):
    folder = convert(corpus, ["memmap"])[0].folder
    note = json.loads((folder / "tersely.json").read_text())
    (folder / "tersely.json").write_text(json.dumps(note | {"corpus": "another"}))
    assert "another corpus" in dict(verify_conversions(corpus))["memmap"]
    (folder / "tersely.json").write_text(json.dumps(note | {"files": None}))
    assert "unfinished" in dict(verify_conversions(corpus))["memmap"]


KNOWN = {"size": 1, "xxh3_128": "0" * 32}
DAMAGED = {
    "a number for a file": {"files": {"a": 5}},
    "a list of files": {"files": []},
    "a size that is none": {"files": {"a": KNOWN | {"size": "1"}}},
    "a checksum that is none": {"files": {"a": KNOWN | {"xxh3_128": None}}},
    "a way out of the folder": {"files": {"../a": KNOWN}},
    "an absolute path": {"files": {"/a": KNOWN}},
    "a name with NUL": {"files": {"a\0": KNOWN}},
    "a name too long for any disk": {"files": {"a" * 5000: KNOWN}},
    "another version": {"version": 2},
    "no layout": {"to": None},
    "no corpus": {"corpus": ["a"]},
}


@pytest.mark.parametrize("damage", [*DAMAGED, "deep", "[]", "", "\xff"])
def test_a_damaged_note_is_a_fault_with_a_way_out(corpus, damage):
    folder = convert(corpus, ["memmap", "mds"])[0].folder
    note = json.loads((folder / "tersely.json").read_text())
    raw = {"deep": "[" * 100_000}.get(damage, damage)
    text = json.dumps(note | DAMAGED[damage]) if damage in DAMAGED else raw
    (folder / "tersely.json").write_text(text, encoding="latin-1")
    found = dict(verify_conversions(corpus))
    assert f"remove {folder}, and convert again" in found["memmap"]
    assert found["mds/index.json"] is None
    before = content(folder)
    with pytest.raises(ShardError, match="and convert again"):
        convert(corpus, ["memmap"])
    assert content(folder) == before


def test_progress_ends_at_all_tokens(corpus):
    seen = []
    convert(corpus, FORMATS, on_progress=seen.append)
    for name in FORMATS:
        ours = [now for now in seen if now.format == name]
        assert ours[-1].tokens == ours[-1].tokens_total == ShardFolder(corpus).manifest.tokens
