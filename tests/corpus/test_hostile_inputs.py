"""Inputs that are broken, meant to do harm or not what their names say: memory stays bounded, and nothing is lost unsaid."""

import gzip
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tersely.corpus import find_sources
from tersely.errors import CorpusError, UsageError


def read(*paths, **options):
    """All texts, the reasons of the rejected records, and the faults."""
    batches = [batch for source in find_sources(paths, **options)[0] for batch in source.batches()]
    reasons = [reject.reason for batch in batches for reject in batch.rejected]
    return [text for b in batches for text in b.texts], reasons, [b.fault for b in batches if b.fault]


def pack(path, codec, part, times):
    """Writes an archive of ``times`` times ``part`` behind one good record."""
    with pa.CompressedOutputStream(str(path), codec) as stream:
        stream.write(b'{"text": "good"}\n')
        for _ in range(times):
            stream.write(part)


READ = textwrap.dedent(
    """
    import json, resource, sys
    path, mebibytes, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    from tersely.corpus import find_sources
    (source,), _ = find_sources([path], **options)
    if mebibytes:  # above what the libraries have mapped by now
        mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (mebibytes << 20),) * 2)
    texts, rejected, fault = 0, [], ""
    for batch in source.batches():
        texts += len(batch.texts)
        rejected += [reject.reason for reject in batch.rejected]
        fault = batch.fault
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"texts": texts, "rejected": rejected, "fault": fault, "peak": peak}))
    """
)


def read_apart(path, mebibytes=0, **options):
    """Reads in a process of its own that may take so much more memory; what it found, and its peak in MiB."""
    command = [sys.executable, "-c", READ, str(path), str(mebibytes), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")


@linux
@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_bomb_is_a_fault_in_bounded_memory(tmp_path, codec):
    path = tmp_path / "bomb.jsonl"
    pack(path, codec, b'{"text": "' + b"x" * (1 << 20) + b'"}\n', 400)  # 400 MiB
    assert path.stat().st_size < 840_000
    found = read_apart(path, 300)
    assert 256 < found["texts"] < (265 if codec == "zstd" else 401)
    assert "as no archive of documents does" in found["fault"]


@linux
def test_one_endless_line_is_rejected_in_bounded_memory(tmp_path):
    path = tmp_path / "endless.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n{"text": "')
        file.truncate(1 << 30)  # NUL to the end, which the disk does not hold
    found = read_apart(path, 300, max_record_bytes=16 << 20)
    length = (1 << 30) - 14
    assert (found["texts"], found["fault"]) == (1, "")
    assert found["rejected"] == [f"the line has {length} bytes, above the limit of {16 << 20}"]


def test_memory_does_not_grow_with_the_input(tmp_path):
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    record = json.dumps({"text": "Some text of a document. " * 40}).encode() + b"\n"
    small.write_bytes(record * 10_000)
    with large.open("wb") as file:
        for _ in range(20):
            file.write(record * 10_000)
    assert large.stat().st_size > 200e6
    few, many = read_apart(small), read_apart(large)
    assert many["texts"] == 20 * few["texts"]
    assert many["peak"] < few["peak"] + 20


@linux
def test_a_parquet_dictionary_of_one_long_value_is_a_bomb(tmp_path):
    numbers = pa.array(np.zeros(2000, np.int32))
    column = pa.DictionaryArray.from_arrays(numbers, ["x" * (2 << 20)])  # 4 GB of text in 100 kB
    pq.write_table(pa.table({"text": column}), tmp_path / "bomb.parquet")
    found = read_apart(tmp_path / "bomb.parquet", 1500)
    assert 0 < found["texts"] < 200
    assert "bytes of text came from" in found["fault"]


def test_archives_below_the_ratio_or_small_are_no_bombs(tmp_path, monkeypatch):
    pack(tmp_path / "a.jsonl.zst", "zstd", b'{"text": ""}\n' * 1000, 100)
    assert len(read(tmp_path / "a.jsonl.zst")[0]) == 100_001
    monkeypatch.setattr("tersely.corpus.files._RATIO_FROM", 1000)
    monkeypatch.setattr("tersely.corpus.files._BLOCK", 4096)
    texts, _, faults = read(tmp_path / "a.jsonl.zst")
    assert len(texts) < 100_000
    assert "limit: 500 times" in faults[0]


GOOD = b'{"text": "good"}\n'
LINES = {
    "form feed between lines": (b"\x0c\n", [], 0),
    "line separator": ('{"text": "a\u2028b\u0085c"}\n'.encode(), ["a\u2028b\u0085c"], 0),
    "Windows end": (b'{"text": "a"}\r\n', ["a"], 0),
    "duplicate keys": (b'{"text": "first", "text": "last"}\n', ["last"], 0),
    "huge number": (b'{"text": "a", "n": 1e999, "m": ' + b"9" * 5000 + b"}\n", ["a"], 0),
    "form feed in a string": (b'{"text": "a\x0cb"}\n', [], 1),
    "keys that are no strings": (b'{1: 2, "text": "a"}\n', [], 1),
    "deep": (b'{"text": "a", "x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}\n", [], 1),
    "NUL": (b"\0" * 100 + b"\n", [], 1),
    "two records": (b'{"text": "a"} {"text": "b"}\n', [], 1),
}


@pytest.mark.parametrize("name", LINES)
def test_odd_lines_cost_at_most_themselves(tmp_path, name):
    line, texts, rejected = LINES[name]
    path = tmp_path / "docs.jsonl"
    path.write_bytes(GOOD + line + GOOD)
    found, reasons, faults = read(path)
    assert found == ["good", *texts, "good"]
    assert (len(reasons), faults) == (rejected, [])


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n", b" \r\n"])
def test_empty_files_have_no_records_and_no_faults(tmp_path, content):
    (tmp_path / "a.jsonl").write_bytes(content)
    assert read(tmp_path / "a.jsonl") == ([], [], [])


def test_a_last_line_that_was_cut_is_rejected(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(GOOD + GOOD[:9])
    texts, reasons, _ = read(tmp_path / "a.jsonl")
    assert (texts, len(reasons)) == (["good"], 1)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_that_is_one_json_array_is_told_how_to_become_lines(tmp_path, indent):
    (tmp_path / "a.json").write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=indent))
    texts, reasons, _ = read(tmp_path / "a.json")
    assert texts == []
    assert "jq -c '.[]' FILE" in reasons[0]


def test_integers_beyond_64_bits_keep_their_digits_as_fields(tmp_path):
    numbers = [2**64, 2**63, 12345678901234567890123, -(2**70), 5, 0.5]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "a", "id": number}) + "\n" for number in numbers))
    (batch,) = find_sources([path], fields=["id"])[0][0].batches()
    assert batch.fields["id"] == [str(number) for number in numbers]


def test_an_archive_is_read_whatever_its_name_says(tmp_path):
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(GOOD))
    (tmp_path / "plain.jsonl.gz").write_bytes(GOOD)
    assert read(tmp_path) == (["good", "good"], [], [])


def test_pickles_and_arrays_are_refused_by_name_and_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    for name in ("a.pkl", "a.pt", "a.npy"):
        (tmp_path / name).write_bytes(pickle.dumps({"text": Trap()}))
        with pytest.raises(UsageError, match="does not say what it holds"):
            find_sources([tmp_path / name])
    for kind in ("jsonl", "text", "parquet", "fasta"):
        texts, reasons, faults = read(tmp_path, input_format=kind)
        assert (texts, len(reasons) + len(faults) >= 3) == ([], True)
    assert not (tmp_path / "sprung").exists()


def test_a_folder_may_be_called_like_a_file(tmp_path):
    (tmp_path / "docs.jsonl").mkdir()
    (tmp_path / "docs.jsonl" / "a.jsonl").write_bytes(GOOD)
    assert read(tmp_path / "docs.jsonl")[0] == read(tmp_path)[0] == ["good"]


def test_a_link_to_a_file_is_read_and_the_same_file_twice_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "out" / "link.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert read(tmp_path / "out")[0] == ["good"]
    with pytest.raises(UsageError, match="given twice"):
        find_sources([tmp_path])


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_empty(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(CorpusError, match=r"sub cannot be listed: Permission denied"):
        find_sources([tmp_path])


def test_files_that_may_not_be_opened_are_faults(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(GOOD)
    plain = Path.open

    def refuse(path, *args):
        if path.name == "a.jsonl":
            raise PermissionError(13, "Permission denied")
        return plain(path, *args)

    monkeypatch.setattr(Path, "open", refuse)
    assert read(tmp_path) == (
        ["good"],
        [],
        [f"{tmp_path / 'a.jsonl'} cannot be read: Permission denied"],
    )
    assert find_sources([tmp_path])[0][0].spans(100) == [None]


def test_a_disk_that_fails_in_the_middle_is_a_fault_behind_the_records_before_it(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD * 100)
    plain = Path.open

    class Failing:
        def __init__(self, raw):
            self.raw, self.left = raw, 40
            self.close, self.seek = raw.close, raw.seek

        def read(self, size):
            self.left -= 1
            if not self.left:
                raise OSError(5, "Input/output error")
            return self.raw.read(size)

    monkeypatch.setattr(Path, "open", lambda path, *args: Failing(plain(path, *args)))
    monkeypatch.setattr("tersely.corpus.files._BLOCK", 20)
    texts, reasons, (fault,) = read(path)
    assert (set(texts), reasons) == ({"good"}, [])
    assert 40 < len(texts) < 50
    assert "Input/output error" in fault


def test_a_parquet_file_with_a_damaged_page_gives_what_is_before_it(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"{number} " + "x" * 50 for number in range(5000)]})
    pq.write_table(table, path, row_group_size=1000, compression="zstd", use_dictionary=False)
    raw = bytearray(path.read_bytes())
    middle = pq.read_metadata(path).row_group(3).column(0).data_page_offset
    raw[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(raw)
    texts, reasons, (fault,) = read(path)
    assert (len(texts), reasons) == (3000, [])
    assert "breaks off behind row 3000" in fault
    (source,), _ = find_sources([path])
    assert [list(source.batches(span))[-1].complete for span in source.spans(1)] == [True] * 3 + [False, True]


def test_a_parquet_file_that_was_replaced_by_a_smaller_one_is_a_fault(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 10}), path, row_group_size=1)
    (source,), _ = find_sources([path])
    spans = source.spans(1)
    pq.write_table(pa.table({"text": ["a"] * 2}), path, row_group_size=1)
    assert "more when it was listed" in list(source.batches(spans[-1]))[-1].fault


def test_a_pipe_is_read_as_a_file_is(tmp_path):
    fifo = tmp_path / "pipe.jsonl"
    os.mkfifo(fifo)
    thread = threading.Thread(target=fifo.write_bytes, args=(GOOD * 3,))
    thread.start()
    assert read(fifo)[0] == ["good"] * 3
    thread.join()


def test_dev_stdin_is_standard_input(monkeypatch):
    (source,), _ = find_sources(["/dev/stdin"])
    assert (source.name, source.path) == ("<stdin>", None)
    with pytest.raises(UsageError, match="given twice"):
        find_sources(["-", "/dev/stdin"])
