"""``tersely prepare`` as it is stopped in real life: killed, told to stop, without room, twice at once, in shares."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from killing import contents

from tersely.cli.running import share_of
from tersely.errors import UsageError

PROGRAM = [sys.executable, "-P", "-c", "from tersely.cli.main import main; main()"]


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Twelve megabytes in two files: a handful of tasks of capacity 1024."""
    folder = tmp_path_factory.mktemp("big")
    draw = random.Random(0)
    words = ["lorem", "ipsum", "dolor", "sit", "amet", "caf\u00e9", "\u6f22\u5b57"]
    for name in ("a", "b"):
        with (folder / f"{name}.jsonl").open("w") as file:
            for number in range(9000):
                text = " ".join(draw.choices(words, k=draw.randrange(1, 200)))
                file.write(json.dumps({"text": f"{number} {text}"}, ensure_ascii=False) + "\n")
                if number % 1000 == 0:
                    file.write("{\n")
    return folder


def command(big, out, *more):
    return [
        *PROGRAM,
        "prepare",
        str(big),
        "--pack",
        "1024",
        "--out",
        str(out),
        "--max-bad",
        "1",
        *map(str, more),
    ]


def run(*arguments, code=0):
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def whole(big, tmp_path_factory):
    """What an undisturbed run gives."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(big, out, "--workers", 1)
    found = contents(out)
    assert len([name for name in found if name.startswith("data-")]) == 2
    return found


def is_begun(out):
    """Whether a run has claimed the folder and reads."""
    return bool(list(out.glob(".work/at-*")))


def started(arguments, out):
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not is_begun(out) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def processes_at(out):
    """Running processes that have this folder in their command line."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if str(out).encode() in file.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def test_killed_at_random_moments_with_several_workers_the_bytes_are_the_same(big, whole, tmp_path):
    draw = random.Random(1)
    out = tmp_path / "out"
    for workers in (2, 3, 2):
        process = started(command(big, out, "--workers", workers), out)
        time.sleep(draw.random() * 1.5)
        process.kill()
        process.communicate()
    run(big, out, "--workers", 2)
    assert contents(out) == whole
    assert processes_at(out) == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_it_and_names_the_command_that_goes_on(big, whole, tmp_path, sent, code):
    out = tmp_path / "out"
    process = started(command(big, out, "--workers", 2), out)
    os.killpg(process.pid, sent)  # as a terminal or a batch system does
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == code, err
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if "To go on: " in line]
    assert shlex.split(line.split("To go on: ")[1])[1:3] == ["prepare", str(big)]
    assert processes_at(out) == []
    run(big, out, "--workers", 2)
    assert contents(out) == whole


FULL_DISK = """
    mount -t tmpfs -o size=4m tmpfs "$1"
    shift
    folder="$1"; shift
    "$@"; echo "code $?"
    ls -a "$folder" "$folder/.work"
    mount -o remount,size=200m tmpfs "$(dirname "$folder")"
    "$@"; echo "code $?"
    cp -r "$folder" "$TARGET"
"""


def test_a_full_disk_stops_it_with_the_room_there_is_and_more_room_lets_it_go_on(big, whole, tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a file system of its own")
    (tmp_path / "disk").mkdir()
    out = tmp_path / "disk/out"
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            "sh",
            "-c",
            FULL_DISK,
            "sh",
            tmp_path / "disk",
            out,
            *command(big, out, "--workers", 2),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=os.environ | {"TARGET": str(tmp_path / "copy")},
    )
    codes = [line for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == ["code 1", "code 0"], done.stderr
    assert "no room left" in done.stderr
    assert "bytes are free" in done.stderr
    assert "Traceback" not in done.stderr
    assert ".tmp-" not in done.stdout
    assert contents(tmp_path / "copy") == whole


def test_shares_at_once_give_one_folder(big, whole, tmp_path):
    out = tmp_path / "out"
    slurm = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "2"}
    running = [
        subprocess.Popen(command(big, out, "--shard", "0/2", "--workers", 1), stdout=subprocess.PIPE),
        subprocess.Popen(
            command(big, out, "--shard", "slurm", "--workers", 1),
            stdout=subprocess.PIPE,
            env=os.environ | slurm,
        ),
    ]
    said = [process.communicate(timeout=240)[0].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    run(big, out)
    assert contents(out) == whole
    refused = run(big, tmp_path / "x", "--shard", "2/2", code=2)
    assert "I from 0 to N - 1" in refused.stderr


def test_a_second_run_at_once_is_refused(big, tmp_path):
    out = tmp_path / "out"
    process = started(command(big, out, "--workers", 1), out)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        second = run(big, out, code=1)
    finally:
        process.kill()
        process.communicate()
    assert f"being written by process {process.pid} on " in second.stderr


def test_the_manifest_names_the_command_that_makes_it_again(big, whole, tmp_path):
    noted = json.loads(whole["manifest.json"])["command"]
    assert shlex.split(noted) == ["tersely", "prepare", "--pack", "1024", str(big)]
    again = [*PROGRAM, *shlex.split(noted)[1:], "--out", str(tmp_path / "again"), "--max-bad", "1"]
    assert subprocess.run(again, capture_output=True, check=False).returncode == 0
    assert contents(tmp_path / "again") == whole
    shutil.rmtree(tmp_path / "again")


@pytest.mark.parametrize(
    ("variables", "share"),
    [
        (
            {"ARRAY_TASK_ID": "6", "ARRAY_TASK_MIN": "4", "ARRAY_TASK_MAX": "7", "ARRAY_TASK_COUNT": "4"},
            (2, 4),
        ),
        (
            {"ARRAY_TASK_ID": "4", "ARRAY_TASK_MAX": "8", "ARRAY_TASK_COUNT": "5", "ARRAY_TASK_STEP": "2"},
            (2, 5),
        ),
        ({"PROCID": "3", "NTASKS": "8"}, (3, 8)),
        (
            {
                "ARRAY_TASK_ID": "1",
                "ARRAY_TASK_MAX": "2",
                "ARRAY_TASK_COUNT": "3",
                "PROCID": "1",
                "NTASKS": "2",
            },
            (3, 6),
        ),
        (
            {"ARRAY_TASK_ID": "9", "ARRAY_TASK_MIN": "1", "ARRAY_TASK_MAX": "9", "ARRAY_TASK_COUNT": "3"},
            "has gaps",
        ),
        ({"PROCID": "x", "NTASKS": "2"}, "no number"),
        ({}, "start it with sbatch"),
    ],
)
def test_slurm_tells_the_share(monkeypatch, variables, share):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    if isinstance(share, tuple):
        assert share_of("slurm") == share
    else:
        with pytest.raises(UsageError, match=share):
            share_of("slurm")


def test_a_dry_run_refuses_what_the_job_would(big):
    for option, value in (("--format", "nope"), ("--shard", "9/2")):
        done = subprocess.run(
            [*PROGRAM, "prepare", str(big), "--dry-run", option, value],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert value in done.stderr


def test_an_output_within_an_input_is_refused(big):
    refused = run(big, big / "out", code=2)
    assert "lies in the input" in refused.stderr
    assert not (big / "out").exists()


def test_the_command_survives_odd_names(big, tmp_path):
    shutil.copy(big / "a.jsonl", tmp_path / "-odd name.jsonl")
    options = dict(cwd=tmp_path, capture_output=True, check=False)
    first = [*PROGRAM, "prepare", "--max-bad", "1", "--out", "one", "--", "-odd name.jsonl"]
    assert subprocess.run(first, **options).returncode == 0
    noted = json.loads((tmp_path / "one/manifest.json").read_text())["command"]
    head, dashes, tail = noted.partition(" -- ")
    again = [*PROGRAM, *shlex.split(head)[1:], "--max-bad", "1", "--out", "two", "--", *shlex.split(tail)]
    assert dashes
    assert subprocess.run(again, **options).returncode == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
