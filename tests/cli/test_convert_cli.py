"""tersely convert, and verify of what it wrote."""

import errno
import json
import re
import resource
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tersely.cli.main import cli
from tersely.corpus.formats.output import SummedFile
from tersely.errors import CorpusError, ShardError, UsageError


def run(*arguments):
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def test_convert_says_what_it_wrote_and_that_it_was_there(corpus):
    first = run("convert", corpus, "--format", "megatron, mds")
    assert f"megatron  {corpus / 'megatron'}: 2 files" in first.stdout
    assert "was there" not in first.stdout
    again = json.loads(run("convert", corpus, "--format", "megatron,memmap", "--json").stdout)
    assert [(one["format"], one["written"]) for one in again["conversions"]] == [
        ("megatron", False),
        ("memmap", True),
    ]
    files = [path for path in (corpus / "memmap").iterdir() if path.name != "tersely.json"]
    assert again["conversions"][1]["files"] == len(files) == 3
    assert again["conversions"][1]["size"] == sum(path.stat().st_size for path in files)


def test_verify_checks_conversions_with_their_folder_and_alone(corpus, tmp_path):
    run("convert", corpus, "--format", "litdata")
    run("convert", corpus, "--format", "memmap", "--out", tmp_path / "alone")
    sound = run("verify", corpus)
    assert sound.return_value == 0
    assert "litdata/index.json" in sound.stdout
    assert run("verify", tmp_path / "alone").return_value == 0
    for damaged in (corpus / "litdata" / "index.json", tmp_path / "alone" / "memmap" / "tokens.bin"):
        damaged.write_bytes(damaged.read_bytes() + b" ")
        result = run("verify", damaged.parent.parent)
        assert result.return_value == 4
        assert f"FAULT  {damaged}" in result.stdout


def test_the_way_out_of_a_changed_byte_that_verify_names_is_one(corpus):
    run("convert", corpus, "--format", "memmap")
    path = corpus / "memmap" / "tokens.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    result = run("verify", corpus)
    assert result.return_value == 4
    assert f"remove {corpus / 'memmap'}, and convert again" in result.stdout
    shutil.rmtree(corpus / "memmap")
    run("convert", corpus, "--format", "memmap")
    assert run("verify", corpus).return_value == 0


def test_verify_goes_on_after_a_damaged_note(corpus):
    run("convert", corpus, "--format", "memmap,mds")
    (corpus / "memmap" / "tersely.json").write_text("[" * 100_000)
    (corpus / "mds" / "index.json").write_text("{}")
    result = run("verify", corpus)
    assert result.return_value == 4
    faults = [line for line in result.stdout.splitlines() if line.startswith("FAULT")]
    assert len(faults) == 2
    assert f"remove {corpus / 'memmap'}, and convert again" in faults[0]
    assert str(corpus / "mds" / "index.json") in faults[1]
    refused = run("convert", corpus, "--format", "memmap").exception
    assert isinstance(refused, ShardError)
    assert refused.exit_code == 4


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_folder_and_the_room_there_is(corpus, monkeypatch, number):
    def full(self, content):
        raise OSError(number, "as the system says it")

    with monkeypatch.context() as patch:
        patch.setattr(SummedFile, "write", full)
        error = run("convert", corpus, "--format", "memmap").exception
    assert isinstance(error, CorpusError)
    assert re.search(
        rf"no room left for {corpus / 'memmap'} \([1-9]\d* bytes are free\): make some", str(error)
    )
    assert [path.name for path in (corpus / "memmap").iterdir()] == ["tersely.json"]
    assert "was there" not in run("convert", corpus, "--format", "memmap").stdout
    assert run("verify", corpus).return_value == 0


def test_a_disk_too_full_for_a_folder_is_told_the_same_way(corpus, monkeypatch, tmp_path):
    def full(self, *_, **more):
        raise OSError(errno.ENOSPC, "as the system says it")

    monkeypatch.setattr(Path, "mkdir", full)
    error = run("convert", corpus, "--format", "memmap", "--out", tmp_path / "new" / "place").exception
    assert f"no room left for {tmp_path / 'new' / 'place' / 'memmap'} (" in str(error)


def test_a_file_above_the_limit_of_the_process_is_told_with_the_way_out(corpus, tmp_path):
    run(
        "convert", corpus, "--format", "memmap", "--out", tmp_path
    )  # compiled code is stored before the limit
    assert (tmp_path / "memmap" / "tokens.bin").stat().st_size > 2000
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        error = run("convert", corpus, "--format", "memmap").exception
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(error, CorpusError)
    assert f"{corpus / 'memmap'} needs a file larger than 'ulimit -f'" in str(error)
    assert "raise the limit" in str(error)


def test_a_format_that_is_not_known_is_wrong_usage(corpus):
    result = run("convert", corpus, "--format", "webdataset")
    assert isinstance(result.exception, UsageError)
    assert "megatron" in str(result.exception)
    with pytest.raises(UsageError, match="no format is named"):
        raise run("convert", corpus, "--format", " , ").exception
