"""What becomes of inputs of a job that break off, can be read only once, or hold nothing but bad records."""

import gzip
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from jobs import faults, job
from killing import contents
from small import TEXTS

from tersely.corpus import find_sources, prepare
from tersely.corpus.executors import LocalExecutor
from tersely.corpus.job import task as task_module
from tersely.errors import UnfinishedError, UsageError
from tersely.shards import ShardFolder


def test_what_can_be_read_once_is_not_lost_when_another_input_is_broken(inputs, tmp_path):
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 5000)[:40])
    os.mkfifo(tmp_path / "pipe.jsonl")
    content = (inputs / "a.jsonl").read_bytes()
    feeder = threading.Thread(target=lambda: (tmp_path / "pipe.jsonl").write_bytes(content))
    feeder.start()
    sources = find_sources([tmp_path / "pipe.jsonl", tmp_path / "broken.jsonl.gz"])[0]
    manifest = prepare(sources, tmp_path / "out", executor=LocalExecutor(2))
    feeder.join()
    assert [(s.documents, s.complete) for s in manifest.sources] == [(60, True), (0, False)]


def test_what_can_be_read_once_is_not_read_again_after_a_death(inputs, tmp_path, monkeypatch):
    def feed():
        stream = io.TextIOWrapper(io.BytesIO((inputs / "a.jsonl").read_bytes()))
        monkeypatch.setattr("sys.stdin", stream)
        return find_sources(["-"])[0]

    def full(*arguments):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("tersely.corpus.job.task.encode_batch", full)
        with pytest.raises(UnfinishedError, match="cannot be read twice"):
            prepare(feed(), tmp_path / "out")
    assert prepare(feed(), tmp_path / "out").documents == 60


def test_several_broken_inputs_cost_one_more_reading(inputs, tmp_path, monkeypatch):
    for number in range(30):
        (inputs / f"c{number}.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 50)[:-9])
    taken = []
    take = task_module._Run._take
    monkeypatch.setattr(task_module._Run, "_take", lambda *a: (taken.append(a), take(*a))[1])
    manifest = job(inputs, tmp_path / "out", task_bytes=1 << 20)
    assert sum(not source.complete for source in manifest.sources) == 30
    assert len(taken) < 2 * 32 + 3
    assert faults(tmp_path / "out") == []


def test_rejected_records_wait_on_disk(tmp_path):
    """A file of nothing else, as one task, whose quarantine would take 200 MB."""
    code = (
        "import resource, sys; from tersely.corpus import find_sources, prepare; "
        "m = prepare(find_sources([sys.argv[1]])[0], sys.argv[2]); "
        "print(m.quarantined, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peaks = []
    for name, lines in (("few", 10_000), ("bad", 200_000)):
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(gzip.compress(b"x\n" * lines))
        done = subprocess.run(
            [sys.executable, "-c", code, path, tmp_path / name], capture_output=True, text=True, check=True
        )
        quarantined, peak = map(int, done.stdout.split())
        assert quarantined == lines
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 60


@pytest.fixture
def cut_archive(inputs):
    """Between the two files one more, whose archive is cut."""
    records = "".join(json.dumps({"text": f"{number} {'x' * 50}"}) + "\n" for number in range(3000))
    whole = gzip.compress(records.encode())
    (inputs / "ab.jsonl.gz").write_bytes(whole[: len(whole) * 2 // 3])
    return inputs / "ab.jsonl.gz"


@pytest.mark.parametrize("executor", [None, LocalExecutor(2)])
def test_a_cut_archive_is_left_out_as_a_whole_and_the_rest_is_done(inputs, cut_archive, tmp_path, executor):
    manifest = job(inputs, tmp_path / "out", executor=executor)
    counts = {s.name.rsplit("/", 1)[1]: (s.records_in, s.documents, s.quarantined) for s in manifest.sources}
    assert counts == {"a.jsonl": (63, 60, 2), "ab.jsonl.gz": (1, 0, 1), "b.jsonl": (63, 60, 2)}
    assert [source.complete for source in manifest.sources] == [True, False, True]
    rejects = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    (whole,) = [reject for reject in rejects if reject["source"] == str(cut_archive)]
    assert whole["line"] == 0
    assert "breaks off" in whole["reason"]
    assert "--salvage" in whole["reason"]
    assert faults(tmp_path / "out") == []
    job(inputs, tmp_path / "again", executor=executor)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_a_cut_archive_is_salvaged_on_request(inputs, cut_archive, tmp_path):
    manifest = job(inputs, tmp_path / "out", salvage=True)
    source = manifest.sources[1]
    assert 1000 < source.documents < 3000
    assert (source.quarantined, source.complete) == (1, False)
    opened = ShardFolder(tmp_path / "out")
    texts = [
        bytes((opened.tokens(d, 0, 99)[:-1].astype(int) - 3).tolist())
        for d in range(60, 60 + source.documents)
    ]
    assert texts == [f"{n} {'x' * 50}".encode() for n in range(source.documents)]
    assert faults(tmp_path / "out") == []


def test_places_in_the_quarantine_are_those_of_the_file_in_whatever_tasks_it_is_read(inputs, tmp_path):
    job(inputs, tmp_path / "tasks", task_bytes=700)
    job(inputs, tmp_path / "whole", task_bytes=1 << 20)
    tasks, whole = ((tmp_path / name / "quarantine.jsonl").read_text() for name in ("tasks", "whole"))
    assert tasks == whole
    for line in map(json.loads, whole.splitlines()):
        raw = Path(line["source"]).read_bytes()
        assert raw[: line["byte"]].count(b"\n") == line["line"] - 1
        assert raw[line["byte"] :].startswith(line["excerpt"].encode())


def test_standard_input_is_read_by_this_process_and_from_its_beginning(monkeypatch, tmp_path):
    text = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)

    def feed():
        stream = io.TextIOWrapper(io.BytesIO(text))
        monkeypatch.setattr("sys.stdin", stream)
        return find_sources(["-"])[0]

    with pytest.raises(UsageError, match="cannot be read in shares"):
        prepare(feed(), tmp_path / "out", share=(0, 2))
    prepare(feed(), tmp_path / "whole", executor=LocalExecutor(2))

    def broken(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["tersely.corpus.prepare"], "finish", broken)
        with pytest.raises(KeyboardInterrupt):
            prepare(feed(), tmp_path / "out")
    prepare(feed(), tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
