"""``tersely train equal-info`` and ``tersely inspect`` of what it makes, as a user meets them."""

import json

import pytest
from click.testing import CliRunner
from codes import TEXTS

from tersely import load_tokenizer
from tersely.cli.main import cli
from tersely.compress import EqualInfoTokenizer
from tersely.compress.equal_info.models import MixingModel, load_model
from tersely.corpus import find_sources, prepare
from tersely.shards import ShardFolder, verify


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Documents, and a code that was trained on most of them."""
    made = tmp_path_factory.mktemp("code")
    for name, texts in (("train", TEXTS[5:]), ("held", TEXTS[:5])):
        (made / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    done = run(
        "train", "equal-info", made / "train.jsonl", "--bits", 12, "--carry", 1, "--out", made / "code"
    )
    assert done.exception is None, done.output
    assert "bytes per token" in done.output
    return made


def test_a_trained_code_is_a_tokenizer_for_prepare(folder, tmp_path):
    tok = load_tokenizer(folder / "code")
    assert isinstance(tok, EqualInfoTokenizer)
    assert (tok.bits, tok.carry, tok.vocab_size) == (12, 1, 4096)
    sources, _ = find_sources([folder / "held.jsonl"])
    prepare(sources, tmp_path / "prepared", str(folder / "code"), capacity=512)
    assert not [fault for _, fault in verify(tmp_path / "prepared") if fault]
    assert ShardFolder(tmp_path / "prepared").manifest.tokenizer.fingerprint == tok.fingerprint
    assert not (tmp_path / "prepared" / "tokenizer" / "model.safetensors").exists()


def test_inspect_measures_a_code_on_held_out_text(folder, tmp_path):
    page = tmp_path / "page.html"
    done = run("inspect", folder / "code", "--held-out", folder / "held.jsonl", "--html", page)
    assert done.exception is None, done.output
    for words in (
        "bytes per token",
        "of the model itself",
        "live ids",
        "changed by a byte in front",
        "documents lost",
    ):
        assert words in done.output
    assert "Length of windows" in page.read_text()
    done = run("inspect", folder / "code", "--held-out", folder / "held.jsonl", "--json")
    figures = json.loads(done.output)
    assert figures["failures"] == 0
    assert figures["live_ids"] == 4095
    assert figures["model_bits_per_byte"] < figures["bits_per_byte"]
    assert figures["bits_per_byte"] == pytest.approx(12 / figures["bytes_per_token"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["train", "equal-info", "held.jsonl", "--vocab-size", "300", "--out", "x"],
            "--vocab-size is for bpe",
        ),
        (["train", "equal-info", "held.jsonl", "--out", "code"], "exists"),
        (["train", "bpe", "held.jsonl", "--out", "x"], "needs --vocab-size"),
        (
            ["train", "bpe", "held.jsonl", "--vocab-size", "300", "--carry", "1", "--out", "x"],
            "--carry is for equal-info",
        ),
        (["inspect", "code"], "--held-out"),
        (["inspect", "code", "--held-out", "held.jsonl", "--layers", "3"], "--layers is of a comparison"),
        (["inspect", "prepared", "--held-out", "held.jsonl"], "prepared is none"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = run(*arguments)
    assert words in str(getattr(done.exception, "message", done.exception))


def test_a_code_is_trained_by_the_model_that_is_named(folder, tmp_path):
    made = run(
        *("train", "equal-info", folder / "held.jsonl", "--model", "mixing", "--bits", 10, "--carry", 0),
        *("--out", tmp_path / "code"),
    )
    assert made.exception is None, made.output
    assert isinstance(load_model(tmp_path / "code" / "model.safetensors"), MixingModel)
    done = run("inspect", tmp_path / "code", "--held-out", folder / "held.jsonl", "--json")
    figures = json.loads(done.output)
    assert figures["failures"] == 0
    assert figures["model_bits_per_byte"] < figures["bits_per_byte"]


def test_eight_bits_are_refused_with_the_reason(folder):
    done = run("train", "equal-info", folder / "train.jsonl", "--bits", 8, "--out", folder / "none")
    assert "no room for 256 byte cells and a stop cell" in str(done.exception)
    assert not (folder / "none").exists()
