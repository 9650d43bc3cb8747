"""The table of rows: as the plan says, and the same from a file that all processes map."""

import multiprocessing
import os
import tempfile

import numpy as np
import pytest
from folders import PER_DOCUMENT, keys, some_lengths, write_folder
from hypothesis import given
from hypothesis import strategies as st

from tersely.pack import PackedDataset, plan
from tersely.pack.mapped import mapped_arrays
from tersely.pack.reference import ranges_of
from tersely.pack.rows import build_rows
from tersely.shards import ShardFolder, StoredPieces


@given(
    documents=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), max_size=8),
    capacity=st.integers(1, 20),
    strategy=st.sampled_from(["best-fit", "next-fit", "concat", "mix"]),
    overflow=st.sampled_from(["split", "truncate", "drop"]),
)
def test_rows_are_the_ranges_of_their_pieces(documents, capacity, strategy, overflow):
    stored, offset = [], 0
    for pieces in documents:
        stored.append([(len(pieces) % 3, offset + 10 * i, n) for i, n in enumerate(pieces)])
        offset += 100
    flat = np.array([piece for pieces in stored for piece in pieces], np.int32).reshape(-1, 3)
    first = np.cumsum([0, *map(len, stored)])
    planned = plan([sum(pieces) for pieces in documents], capacity, strategy, overflow)
    table = build_rows(planned, StoredPieces(*flat.T, first))
    pieces = list(zip(*(column.tolist() for column in planned.pieces), strict=True))
    assert len(table) == len(planned.bins)
    for row, chosen in enumerate(planned.bins.to_list()):
        expected = [part for i in chosen for part in ranges_of(stored[pieces[i][0]], *pieces[i][1:])]
        lengths = [pieces[i][2] - pieces[i][1] for i in chosen]
        assert list(table.ranges(row)) == expected
        assert table.seq_lengths(row).tolist() == lengths
        assert table.seq_lengths(row).dtype == np.int32
        assert (table.tokens[row], table.squares[row]) == (sum(lengths), sum(n * n for n in lengths))
    assert table.fingerprint == planned.fingerprint


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "out", [some_lengths(60), some_lengths(60, seed=1)], labels=True)


@pytest.fixture
def shared(monkeypatch):
    """Small folders have files too."""
    monkeypatch.setattr("tersely.pack.loader._SHARED_FROM", 0)


def index_files(folder):
    return sorted((folder / ".index").glob("*.arrow"))


@pytest.mark.parametrize("strategy", ["best-fit", "concat"])
def test_rows_have_the_ids_and_labels_of_their_documents(folder, strategy):
    seen = []
    for row in PackedDataset(folder, capacity=128, strategy=strategy):
        ids = row["input_ids"].astype(np.int64)
        assert row["labels"].dtype == np.int32
        assert row["labels"].tolist() == [i if i % 2 == 0 else -100 for i in ids.tolist()]
        for piece in np.split(ids, np.cumsum(row["seq_lengths"])[:-1]):
            assert np.array_equal(piece, np.arange(piece[0], piece[0] + len(piece)))
            assert piece[0] // PER_DOCUMENT == piece[-1] // PER_DOCUMENT
        seen += ids.tolist()
    lengths = ShardFolder(folder).document_lengths
    assert sorted(seen) == [d * PER_DOCUMENT + t for d, n in enumerate(lengths.tolist()) for t in range(n)]


def test_a_folder_without_labels_has_rows_without(tmp_path):
    rows = list(PackedDataset(write_folder(tmp_path / "out", [[5, 6]])))
    assert [sorted(row) for row in rows] == [["input_ids", "seq_lengths"]]


def test_small_folders_get_no_file(folder):
    list(PackedDataset(folder))
    assert not (folder / ".index").exists()


def test_the_file_is_made_once_for_each_plan_and_has_the_same_rows(folder, shared, monkeypatch):
    monkeypatch.setattr("tersely.pack.loader._SHARED_FROM", 1 << 40)
    expected = {capacity: keys(PackedDataset(folder, capacity)) for capacity in (100, 200)}
    monkeypatch.setattr("tersely.pack.loader._SHARED_FROM", 0)
    for capacity in (100, 200):
        assert keys(PackedDataset(folder, capacity)) == expected[capacity]
    made = {path: path.stat().st_mtime_ns for path in index_files(folder)}
    assert len(made) == 2
    monkeypatch.setattr("tersely.pack.loader.build_rows", None)  # nobody plans again, whatever the seed
    assert keys(PackedDataset(folder, 100)) == expected[100]
    assert sorted(keys(PackedDataset(folder, 100, seed=5))) == sorted(expected[100])
    assert {path: path.stat().st_mtime_ns for path in index_files(folder)} == made


@pytest.mark.parametrize("place", range(0, 2000, 90))
def test_a_damaged_file_is_made_again(folder, shared, place):
    expected = keys(PackedDataset(folder))
    (path,) = index_files(folder)
    whole = path.read_bytes()
    at = place % len(whole)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    assert keys(PackedDataset(folder)) == expected
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 32, b"x" * 5000])
def test_a_file_that_is_something_else_is_made_again(folder, shared, content):
    expected = keys(PackedDataset(folder))
    (path,) = index_files(folder)
    whole = path.read_bytes()
    for damaged in (content, whole[: len(whole) // 2], whole + content + b"x"):
        path.write_bytes(damaged)
        assert keys(PackedDataset(folder)) == expected
        assert path.read_bytes() == whole


def test_a_file_of_another_plan_under_the_right_name_is_not_believed(folder, shared):
    expected = keys(PackedDataset(folder, 100))
    (right,) = index_files(folder)
    keys(PackedDataset(folder, 200))
    (other,) = set(index_files(folder)) - {right}
    os.replace(other, right)
    assert keys(PackedDataset(folder, 100)) == expected


def test_a_folder_with_other_shards_uses_no_old_file(tmp_path, shared):
    old = write_folder(tmp_path / "old", [[50, 60, 70]])
    keys(PackedDataset(old))
    new = write_folder(tmp_path / "new", [[70, 50, 60]])
    os.rename(old / ".index", new / ".index")
    rows = list(PackedDataset(new, capacity=0))
    assert sorted(len(row["input_ids"]) for row in rows) == [50, 60, 70]
    ids = sorted(row["input_ids"].tolist() for row in rows)
    assert ids == [list(range(d * PER_DOCUMENT, d * PER_DOCUMENT + n)) for d, n in enumerate([70, 50, 60])]


def test_where_the_folder_cannot_be_written_the_file_is_in_tmpdir(folder, shared, tmp_path, monkeypatch):
    expected = keys(PackedDataset(folder))
    for path in (folder / ".index").iterdir():
        path.unlink()
    (folder / ".index").rmdir()
    (folder / ".index").write_text("a file, so that no folder can be made")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert keys(PackedDataset(folder)) == expected
    mine = tmp_path / f"tersely-{os.getuid()}"
    assert len(list(mine.glob("*.arrow"))) == 1
    assert mine.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("obstacle", ["file", "link", "open to others"])
def test_where_nothing_can_be_written_rows_stay_in_memory(folder, shared, tmp_path, monkeypatch, obstacle):
    expected = keys(
        PackedDataset(write_folder(tmp_path / "same", [some_lengths(60), some_lengths(60, seed=1)]))
    )
    (folder / ".index").write_text("")
    mine = tmp_path / f"tersely-{os.getuid()}"
    if obstacle == "file":
        mine.write_text("")
    elif obstacle == "link":
        (tmp_path / "elsewhere").mkdir()
        mine.symlink_to(tmp_path / "elsewhere")
    else:
        mine.mkdir()
        mine.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert keys(PackedDataset(folder)) == expected
    assert not list(tmp_path.rglob("tersely-*/*.arrow")) + list((tmp_path / "same").glob("elsewhere/*"))


def _count(path, started, results):
    def build():
        started.put(1)
        return {"a": np.arange(1000)}

    results.put(int(mapped_arrays(path, "key", build)["a"].sum()))


def test_of_processes_that_open_it_at_once_one_makes_it(tmp_path):
    context = multiprocessing.get_context("fork")
    started, results = context.Queue(), context.Queue()
    processes = [context.Process(target=_count, args=(tmp_path, started, results)) for _ in range(8)]
    for process in processes:
        process.start()
    sums = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sums == [499500] * 8
    started.get(timeout=5)
    assert started.empty()


def test_arrays_come_back_as_they_were_and_read_only(tmp_path):
    arrays = {"a": np.arange(5, dtype=np.int32), "b": np.empty(0, np.int64), "c": np.array([255], np.uint8)}
    for _ in range(2):
        found = mapped_arrays(tmp_path, "key", lambda: arrays)
        assert list(found) == list(arrays)
        for name, values in arrays.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values)
            assert not found[name].flags.writeable
