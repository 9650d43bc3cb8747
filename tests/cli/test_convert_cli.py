"""tersely convert, and verify of what it wrote."""

import json

import pytest
from click.testing import CliRunner

from tersely.cli.main import cli
from tersely.errors import UsageError


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


def test_a_format_that_is_not_known_is_wrong_usage(corpus):
    result = run("convert", corpus, "--format", "webdataset")
    assert isinstance(result.exception, UsageError)
    assert "megatron" in str(result.exception)
    with pytest.raises(UsageError, match="no format is named"):
        raise run("convert", corpus, "--format", " , ").exception
