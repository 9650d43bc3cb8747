"""A job that is killed, wherever, gives the same bytes when it is run again."""

import subprocess
import sys
import textwrap

from killing import contents

DRIVER = """
    import sys
    from pathlib import Path
    from killing import contents, in_child
    from tersely.corpus import find_sources, jsonl, prepare

    jsonl.BATCH_BYTES = 1500                    # several batches, so several shards, in a task
    inputs, out = sys.argv[1:3]
    def job(folder):
        sources = find_sources([inputs], fields=["lang"])[0]
        return lambda: prepare(
            sources, folder, "bytes", capacity=128, shard_tokens=5000, task_bytes=12_000, allow_changed=False
        )
    job(out + "/whole")()  # in this process, so that the children find everything loaded
    whole = contents(out + "/whole")
    kills = 0
    while True:
        folder = f"{out}/{kills}"
        code = in_child(job(folder), kill_at=kills)
        if code == 0:
            break
        assert code == -9, (kills, code)
        if kills % 3 == 0:                      # killed again, a few steps further on
            assert in_child(job(folder), kill_at=5) in (-9, 0)
        assert in_child(job(folder)) == 0, kills
        assert contents(folder) == whole, kills
        kills += 1
    print(kills)
"""


def test_killed_at_every_write_boundary_and_run_again_the_bytes_are_the_same(inputs, tmp_path, root):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DRIVER), inputs, tmp_path / "out"],
        env={"PYTHONPATH": f"{root}:{root / 'tests/support'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 50
    whole = contents(tmp_path / "out/whole")
    assert len([name for name in whole if name.startswith("data-")]) >= 4
    assert whole["quarantine.jsonl"].count(b"\n") == 4
    assert not any(name.startswith((".tmp-", ".work")) for name in whole)
