"""tersely convert, and verify of what it wrote."""

import json
import shutil

import pytest
from click.testing import CliRunner

from tersely.cli.main import cli
from tersely.errors import ShardError, UsageError


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


def test_a_format_that_is_not_known_is_wrong_usage(corpus):
    result = run("convert", corpus, "--format", "webdataset")
    assert isinstance(result.exception, UsageError)
    assert "megatron" in str(result.exception)
    with pytest.raises(UsageError, match="no format is named"):
        raise run("convert", corpus, "--format", " , ").exception
