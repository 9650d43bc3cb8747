"""``tersely compress`` and ``tersely decompress`` as a user meets them."""

import json
import os
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-P", "-c", "from tersely.cli.main import main; main()"]
TEXT = b"".join(b"line %d of a file that is compressed\n" % n for n in range(400))


def tersely(*arguments, stdin=b"", **more):
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=120, **more
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    path.chmod(0o640)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_goes_and_comes_back(file, tmp_path):
    code, out, err = tersely("compress", file, "--memory", "1MiB")
    assert (code, err) == (0, "")
    assert b"text.txt.tersely" in out
    archive = tmp_path / "text.txt.tersely"
    assert archive.stat().st_size < len(TEXT) / 20
    assert archive.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["text.txt", "text.txt.tersely"], "the original is kept"
    code, _, err = tersely("decompress", archive)
    assert code == 1, "the original is not overwritten"
    assert "exists" in err
    code, out, _ = tersely("decompress", archive, "--out", tmp_path / "again", "--json")
    assert code == 0
    assert json.loads(out)["size"] == len(TEXT)
    assert (tmp_path / "again").read_bytes() == TEXT
    file.write_bytes(b"")
    assert tersely("decompress", archive, "--force")[0] == 0
    assert file.read_bytes() == TEXT


def test_standard_input_goes_to_standard_output():
    code, archive, err = tersely("compress", "-", "--memory", "1MiB", "--threads", 2, stdin=TEXT)
    assert (code, err) == (0, "")
    assert tersely("decompress", "-", "--threads", 2, stdin=archive) == (0, TEXT, "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["compress", "missing"], 2, "missing"),
        (["compress", "text.txt", "--out", "text.txt"], 1, "the input itself"),
        (["compress", "text.txt", "--out", "text.txt", "--force"], 1, "the input itself"),
        (["compress", "text.txt", "--out", "."], 1, "folder"),
        (["compress", "text.txt", "--out", "no/where"], 1, "make it first"),
        (["compress", "text.txt", "--memory", "3MiB"], 2, "power of two"),
        (["compress", "text.txt", "--out", "-", "--json"], 2, "--out FILE"),
        (["decompress", "text.txt"], 2, "--out"),
        (["decompress", "text.txt", "--out", "new"], 4, "no archive"),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(file, arguments, code, words):
    got, out, err = tersely(*arguments, cwd=file.parent)
    assert (got, out) == (code, b"")
    assert words in err
    assert names(file.parent) == ["text.txt"]
    assert file.read_bytes() == TEXT


def test_a_damaged_archive_leaves_no_file(file, tmp_path):
    archive = tmp_path / "text.txt.tersely"
    tersely("compress", file, "--memory", "1MiB")
    file.unlink()
    archive.write_bytes(archive.read_bytes()[:-30])
    code, out, err = tersely("decompress", archive)
    assert (code, out) == (4, b"")
    assert "cut off at byte" in err
    assert names(tmp_path) == ["text.txt.tersely"]


def test_a_kill_in_the_middle_leaves_no_finished_file(tmp_path):
    big = tmp_path / "big"
    big.write_bytes(os.urandom(20_000_000))
    command = subprocess.Popen([*COMMAND, "compress", str(big), "--memory", "1MiB"])
    deadline = time.monotonic() + 60
    while len(names(tmp_path)) == 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    command.kill()
    command.wait()
    assert len(names(tmp_path)) == 2
    assert not (tmp_path / "big.tersely").exists()


def test_ctrl_c_removes_what_was_begun(tmp_path):
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3_000_000))
    command = subprocess.Popen([*COMMAND, "compress", str(big), "--memory", "1MiB"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(names(tmp_path)) == 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    command.terminate()
    assert command.wait(timeout=60) == 143
    command.stderr.close()
    assert names(tmp_path) == ["big"]
