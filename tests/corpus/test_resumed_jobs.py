"""What a folder with an unfinished run takes and refuses, and that nothing but the plan decides its bytes."""

import fcntl
import gzip
import os

import pytest
from jobs import OPTIONS, faults, job
from killing import contents

from tersely.corpus import find_sources, prepare
from tersely.corpus.executors import LocalExecutor, SerialExecutor
from tersely.corpus.job import Done, Place
from tersely.errors import CorpusError, UsageError
from tersely.shards import Journal, ShardFolder


class Stop(Exception):
    pass


class StoppingExecutor:
    """Does some tasks, then stops."""

    def __init__(self, tasks):
        self.tasks = tasks

    def run(self, work, items):
        from tersely.corpus.executors import Outcome

        for number, item in enumerate(items):
            if number == self.tasks:
                raise Stop
            yield Outcome(item, work(item))


def stopped(inputs, out, tasks=2, **options):
    """A folder whose run was stopped after some tasks."""
    with pytest.raises(Stop):
        job(inputs, out, executor=StoppingExecutor(tasks), **options)
    return out


def test_processes_shares_and_stops_do_not_change_a_byte(inputs, tmp_path):
    whole = job(inputs, tmp_path / "whole")
    assert len(whole.shards) > 3
    assert faults(tmp_path / "whole") == []
    job(inputs, tmp_path / "workers", executor=LocalExecutor(3))
    stopped(inputs, tmp_path / "stopped")
    job(inputs, tmp_path / "stopped", executor=LocalExecutor(2))
    assert job(inputs, tmp_path / "shares", share=(2, 3)) is None
    assert job(inputs, tmp_path / "shares", share=(0, 3)) is None
    assert job(inputs, tmp_path / "shares", share=(1, 3)) == whole
    for name in ("workers", "stopped", "shares"):
        assert contents(tmp_path / name) == contents(tmp_path / "whole"), name


def test_a_finished_folder_is_left_as_it_is_by_the_same_job(inputs, tmp_path):
    manifest = job(inputs, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert job(inputs, tmp_path / "out") == manifest
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"capacity": 64}, "capacity is 128 there, 64 here"),
        ({"strategy": "concat"}, "strategy is 'best-fit' there, 'concat' here"),
        ({"seed": 5}, "seed is 0 there, 5 here"),
        ({"eos": False}, "eos is True there, False here"),
        ({"salvage": True}, "salvage is False there"),
        ({"tokenizer": "bytes:hnet"}, "tokenizer is"),
    ],
)
def test_another_plan_in_the_same_folder_is_refused_and_nothing_changes(inputs, tmp_path, options, words):
    for folder, message in (
        (stopped(inputs, tmp_path / "half"), words),
        (tmp_path / "done", "finished corpus"),
    ):
        if folder.name == "done":
            job(inputs, folder)
        before = contents(folder)
        tokenizer = options.get("tokenizer", "bytes")
        more = {name: value for name, value in options.items() if name != "tokenizer"}
        with pytest.raises(CorpusError, match=message):
            prepare(find_sources([inputs], fields=["lang"])[0], folder, tokenizer, **OPTIONS | more)
        assert contents(folder) == before


def test_other_inputs_are_refused(inputs, tmp_path):
    stopped(inputs, tmp_path / "out")
    with pytest.raises(CorpusError, match="it has 2 inputs, there are 1 now"):
        prepare(find_sources([inputs / "a.jsonl"], fields=["lang"])[0], tmp_path / "out", **OPTIONS)
    (inputs / "b.jsonl").write_text('{"text": "shorter"}\n')
    with pytest.raises(CorpusError, match=r"b\.jsonl has size"):
        job(inputs, tmp_path / "out")


def test_a_changed_input_is_refused_unless_it_is_allowed_and_then_done_again(inputs, tmp_path):
    stopped(inputs, tmp_path / "out", tasks=5)
    path = inputs / "a.jsonl"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"a", b"e").replace(b'"teext"', b'"text"').replace(b'"leng"', b'"lang"'))
    os.utime(path, ns=(1, 1))
    with pytest.raises(CorpusError, match=r"a\.jsonl was changed since.*--allow-changed"):
        job(inputs, tmp_path / "out")
    kept = {n for n in range(8) if Done.of(Place(tmp_path / "out"), n).finished}
    job(inputs, tmp_path / "out", allow_changed=True)
    assert kept
    job(inputs, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    with gzip.open(inputs / "c.jsonl.gz", "wt") as file:
        file.write('{"text": "more"}\n')
    stopped(inputs, tmp_path / "more", tasks=2)
    (inputs / "b.jsonl").write_bytes(content + content)
    job(inputs, tmp_path / "more", allow_changed=True)
    job(inputs, tmp_path / "fresh2")
    assert contents(tmp_path / "more") == contents(tmp_path / "fresh2")


def test_allowing_changed_inputs_allows_nothing_else(inputs, tmp_path):
    stopped(inputs, tmp_path / "out")
    os.utime(inputs / "a.jsonl", ns=(1, 1))
    before = contents(tmp_path / "out")
    with pytest.raises(CorpusError, match="capacity is 128 there, 64 here"):
        job(inputs, tmp_path / "out", capacity=64, allow_changed=True)
    with pytest.raises(CorpusError, match="it has 2 inputs, there are 1 now"):
        prepare(
            find_sources([inputs / "a.jsonl"], fields=["lang"])[0],
            tmp_path / "out",
            **OPTIONS,
            allow_changed=True,
        )
    with pytest.raises(CorpusError, match="on_invalid 'replace' now, 'quarantine' then"):
        sources = find_sources([inputs], fields=["lang"], on_invalid="replace")[0]
        prepare(sources, tmp_path / "out", **OPTIONS, allow_changed=True)
    with pytest.raises(UsageError, match="without --shard"):
        job(inputs, tmp_path / "out", allow_changed=True, share=(0, 2))
    assert contents(tmp_path / "out") == before


def test_shares_of_another_number_are_refused_while_one_is_at_work(inputs, tmp_path):
    out = tmp_path / "out"
    job(inputs, out, share=(1, 3))
    with (out / ".work/lock-1-of-3").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CorpusError, match="being written"):
            job(inputs, out, share=(0, 2))
    assert job(inputs, out, share=(0, 2)) is None
    job(inputs, out, share=(1, 2))
    job(inputs, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_an_input_changed_while_it_is_read_is_noticed(inputs, tmp_path):
    class Touching(SerialExecutor):
        def run(self, work, items):
            yield from super().run(work, items)
            os.utime(inputs / "a.jsonl", ns=(1, 1))

    with pytest.raises(CorpusError, match="was changed while"):
        job(inputs, tmp_path / "out", executor=Touching())


def test_a_finished_folder_of_changed_inputs_is_refused(inputs, tmp_path):
    job(inputs, tmp_path / "out")
    os.utime(inputs / "a.jsonl", ns=(1, 1))
    with pytest.raises(CorpusError, match=r"a\.jsonl was changed since .* was made of it"):
        job(inputs, tmp_path / "out")


def test_odd_names_of_folders(inputs, tmp_path):
    out = tmp_path / os.fsdecode(b"odd\xff \n name")
    job(inputs, out, executor=LocalExecutor(1))
    assert faults(out) == []
    assert ShardFolder(out).document_fields.num_rows == 120


def test_two_runs_at_once_are_refused(inputs, tmp_path):
    stopped(inputs, tmp_path / "out")
    with (tmp_path / "out/.work/lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 77 on elsewhere")
        lock.flush()
        with pytest.raises(CorpusError, match="being written by process 77 on elsewhere"):
            job(inputs, tmp_path / "out")
        with pytest.raises(CorpusError, match="being written"):
            job(inputs, tmp_path / "out", share=(0, 2))
    job(inputs, tmp_path / "out")


def test_unfinished_files_of_a_killed_run_go_and_foreign_ones_stay(inputs, tmp_path):
    stopped(inputs, tmp_path / "out")
    ours = tmp_path / "out" / (".tmp-" + "0" * 32)
    ours.write_bytes(b"torn")
    foreign = tmp_path / "out/.tmp-mine"
    foreign.write_bytes(b"keep")
    (tmp_path / "out/notes.txt").write_text("keep")
    job(inputs, tmp_path / "out")
    assert not ours.exists()
    assert foreign.read_bytes() == b"keep"
    assert (tmp_path / "out/notes.txt").read_text() == "keep"


def test_a_work_folder_of_others_is_refused_and_never_removed(inputs, tmp_path):
    theirs = tmp_path / "out/.work"
    theirs.mkdir(parents=True)
    (theirs / "thesis.tex").write_text("keep")
    with pytest.raises(CorpusError, match=r"holds 'thesis\.tex', which no run made"):
        job(inputs, tmp_path / "out")
    job(inputs, tmp_path / "done")
    theirs.rename(tmp_path / "done/.work")
    job(inputs, tmp_path / "done")
    assert (tmp_path / "done/.work/thesis.tex").read_text() == "keep"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/.work").symlink_to(tmp_path / "done")
    with pytest.raises(CorpusError, match="is not a folder of a run"):
        job(inputs, tmp_path / "linked")


def test_a_torn_or_damaged_journal_costs_only_work(inputs, tmp_path):
    job(inputs, tmp_path / "whole")
    stopped(inputs, tmp_path / "out", tasks=4)
    journals = sorted((tmp_path / "out/.work").glob("journal-*"))
    journals[0].write_bytes(journals[0].read_bytes()[:-7])
    journals[1].write_bytes(b"")
    raw = bytearray(journals[2].read_bytes())
    raw[30] ^= 1
    journals[2].write_bytes(raw)
    job(inputs, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["delete", "cut", "grow"])
@pytest.mark.parametrize("kind", ["data-*", "documents-*", ".work/rejects-*"])
def test_files_of_a_run_that_are_gone_or_cut_are_made_again(inputs, tmp_path, kind, change):
    job(inputs, tmp_path / "whole")
    stopped(inputs, tmp_path / "out", tasks=4)
    path = sorted((tmp_path / "out").glob(kind))[0]
    content = path.read_bytes()
    path.unlink()
    if change != "delete":
        path.write_bytes(content[:-1] if change == "cut" else content + b"x")
    job(inputs, tmp_path / "out", executor=LocalExecutor(2))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_journal_believes_lines_up_to_the_first_that_is_damaged(tmp_path):
    journal = Journal(tmp_path / "j")
    for number in range(4):
        journal.append({"number": number})
    raw = journal.path.read_bytes()
    for cut in range(len(raw)):
        journal.path.write_bytes(raw[:cut])
        whole = raw[:cut].count(b"\n")
        assert Journal(journal.path).read() == [{"number": number} for number in range(whole)]
    journal.path.write_bytes(raw[:-3])
    Journal(journal.path).append({"number": 9})
    assert [line["number"] for line in Journal(journal.path).read()] == [0, 1, 2, 9]
    damaged = raw.replace(b'"number": 1', b'"number": 7')
    journal.path.write_bytes(damaged)
    assert Journal(journal.path).read() == [{"number": 0}]
