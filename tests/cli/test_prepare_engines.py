"""``prepare`` with other engines and formats than the default, as one command."""

import json

import pytest
from click.testing import CliRunner
from killing import contents
from small import TEXTS

from tersely.cli.main import cli


def prepared(*arguments):
    done = CliRunner().invoke(cli, ["prepare", *map(str, arguments), "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def docs(write_jsonl):
    return write_jsonl([{"text": text} for text in TEXTS])


def test_formats_are_written_by_the_same_command_and_again_if_they_are_missing(docs, tmp_path):
    prepared(docs, "--out", tmp_path / "out", "--format", "arrow, megatron,memmap")
    assert {"megatron", "memmap"} <= {path.name for path in (tmp_path / "out").iterdir()}
    first = contents(tmp_path / "out")
    prepared(docs, "--out", tmp_path / "out", "--format", "megatron,mds")
    assert {name: content for name, content in contents(tmp_path / "out").items() if name in first} == first
    assert (tmp_path / "out/mds/index.json").exists()
    done = CliRunner().invoke(cli, ["prepare", str(docs), "--out", str(tmp_path / "x"), "--format", "npy"])
    assert "no format 'npy'" in str(done.exception)
    assert not (tmp_path / "x").exists()


def test_ray_prints_nothing_where_results_go(docs, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tersely[ray]'")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with_ray = prepared(docs, "--out", tmp_path / "ray", "--engine", "ray")
    assert with_ray["totals"]["documents"] == len(TEXTS)
    prepared(docs, "--out", tmp_path / "local")
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
