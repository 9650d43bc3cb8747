"""``tersely train`` as a user meets it."""

import json
import subprocess
import sys

import pytest
from small import TEXTS

COMMAND = [sys.executable, "-P", "-c", "from tersely.cli.main import main; main()", "train"]


def train(*arguments, **more):
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **more,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def docs(write_jsonl):
    return write_jsonl([{"text": text, "lang": "xy"[i % 2]} for i, text in enumerate(TEXTS)])


def test_training_ends_with_a_report(docs, tmp_path):
    code, out, err = train("bpe", docs, "--vocab-size", 300, "--by", "lang", "--out", tmp_path / "t.json")
    assert code == 0
    assert "there are fewer" in err
    for words in ("bytes per token", "different words", "by source", "by lang", "Longest", "docs.jsonl"):
        assert words in out
    from tersely import load_tokenizer

    assert load_tokenizer(tmp_path / "t.json").eos_id == 0


def test_json_has_the_figures(docs, tmp_path):
    options = ["--superwords", "--special", "<a>", "--special", "<b>", "--memory", "64MB", "--by", "lang"]
    code, out, _ = train("bpe", docs, "--vocab-size", 280, "--out", tmp_path / "t.json", "--json", *options)
    result = json.loads(out)
    assert code == 0
    assert result["vocab_size"] == 280
    assert {share["name"] for share in result["by"]["values"]} == {"x", "y"}
    assert result["bytes_per_token"] > 1
    added = json.loads((tmp_path / "t.json").read_text())["added_tokens"]
    assert [token["content"] for token in added] == ["<a>", "<b>"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["bpe", "missing.jsonl", "--vocab-size", "300", "--out", "o.json"], 1, "does not exist"),
        (["bpe", "--vocab-size", "300", "--out", "o.json"], 2, "no input"),
        (["bpe", "docs.jsonl", "--vocab-size", "300"], 2, "--out"),
        (["bpe", "docs.jsonl", "--vocab-size", "9", "--out", "o.json"], 2, "too small"),
        (["bpe", "docs.jsonl", "--vocab-size", "300", "--memory", "much", "--out", "o.json"], 2, "500MB"),
        (["bpe", "docs.jsonl", "--vocab-size", "300", "--out", "docs.jsonl"], 1, "exists"),
        (["lzw", "docs.jsonl", "--vocab-size", "300", "--out", "o.json"], 2, "wordpiece"),
        (
            ["unigram", "docs.jsonl", "--superwords", "--vocab-size", "300", "--out", "o.json"],
            2,
            "superwords",
        ),
    ],
)
def test_errors_are_one_sentence_with_the_way_out(docs, arguments, code, words):
    got, out, err = train(*arguments, cwd=docs.parent)
    assert (got, out) == (code, "")
    assert words in err
    assert not (docs.parent / "o.json").exists()


def test_bad_records_exit_with_3_and_are_named(write_jsonl, tmp_path):
    path = write_jsonl([{"text": "good words"}] * 9 + [{"text": None}])
    code, _, err = train("wordpiece", path, "--vocab-size", 100, "--out", tmp_path / "t.json")
    assert code == 3
    assert "docs.jsonl:10" in err
    assert (tmp_path / "t.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["unigram", "--min-count", 3],
        ["bpe", "--cased"],
        ["bpe", "--superword-share", 0.3],
        ["wordpiece", "--superwords"],
    ],
    ids=str,
)
def test_options_that_would_do_nothing_are_refused(docs, tmp_path, arguments):
    kind, *options = arguments
    code, _, err = train(kind, docs, "--vocab-size", 300, "--out", tmp_path / "t.json", *options)
    assert code == 2
    assert options[0] in err
    assert not (tmp_path / "t.json").exists()
