"""A record that kills the process that encodes it costs itself, and nothing else."""

import json
import subprocess
import sys
import textwrap

import pytest
from dying import DyingSource, SometimesDying
from killing import contents
from small import TEXTS

from tersely.corpus import find_sources, prepare
from tersely.corpus.executors import LocalExecutor
from tersely.errors import UnfinishedError
from tersely.shards import verify

RUN = """
    import sys
    from tersely.corpus import find_sources, prepare
    from tersely.corpus.executors import LocalExecutor
    inputs, out, workers = sys.argv[1:]
    executor = LocalExecutor(int(workers), preload=["deadly"])
    prepare(find_sources([inputs])[0], out, capacity=128, task_bytes=12_000, executor=executor)
"""


def run(root, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN), *map(str, arguments)],
        env={"PYTHONPATH": f"{root}:{root / 'tests/support'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_records_that_kill_their_process_are_quarantined_alone(tmp_path, root):
    deadly = {"a SEGFAULT": "SIGSEGV", "an EXIT": "exit code 3", "MEMORY": "out of memory"}
    texts = [*TEXTS[:20], "a SEGFAULT", "", *TEXTS[20:50], "an EXIT", *TEXTS[50:70], "MEMORY", *TEXTS[70:]]
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    run(root, path, tmp_path / "out", 2)
    rejects = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    assert [reject["excerpt"] for reject in rejects] == list(deadly)
    for reject, how in zip(rejects, deadly.values(), strict=True):
        assert how in reject["reason"]
        assert texts[reject["line"] - 1] == reject["excerpt"]
    assert [fault for _, fault in verify(tmp_path / "out") if fault] == []
    run(root, path, tmp_path / "one", 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())["totals"]
    assert (manifest["records_in"], manifest["documents"]) == (len(texts), len(TEXTS))


def test_an_input_whose_reading_kills_is_left_out_and_the_others_are_done(tmp_path, write_jsonl):
    sources = [*find_sources([write_jsonl([{"text": "fine"}])])[0], DyingSource()]
    manifest = prepare(sources, tmp_path / "out", executor=LocalExecutor(1))
    assert [source.documents for source in manifest.sources] == [1, 0]
    (reject,) = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    assert "reading it ended the process (exit code 9)" in json.loads(reject)["reason"]


def test_deaths_without_a_culprit_stop_the_job_and_it_can_go_on(tmp_path):
    (tmp_path / "deaths").mkdir()
    sources = [SometimesDying(tmp_path / "deaths")]
    with pytest.raises(
        UnfinishedError, match=r"died twice \(exit code 9\).*run the same command again"
    ) as stop:
        prepare(sources, tmp_path / "out", executor=LocalExecutor(1))
    assert stop.value.exit_code == 5
    assert prepare(sources, tmp_path / "out", executor=LocalExecutor(1)).documents == 1
