"""``tersely prefill`` as a user meets it."""

import json
import signal
import sys

import pytest
from small import TEXTS, tiny_bpe, tiny_llama

from tersely.cli.main import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process, which has loaded what it needs: the exit code and both outputs."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tersely", "prefill", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_llama(vocab_size=400).save_pretrained(folder)
    tiny_bpe().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def prompts(write_jsonl):
    return write_jsonl([{"text": text} for text in TEXTS[:24]])


def test_all_ways_are_measured_and_their_answers_agree(run, model, prompts):
    code, out, err = run(model, prompts, "--compare", "--batch-size", 8, "--token-budget", 100)
    assert code == 0
    assert err == ""
    for words in ("padded", "length-sorted", "one by one", "packed", "24/24", "The answers agree."):
        assert words in out


def test_json_has_the_figures(run, model, prompts):
    code, out, _ = run(model, prompts, "--compare", "--limit", 5, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["agrees"] is True
    padded, by_length, alone, packed = result["ways"]
    assert padded["computed_tokens"] >= by_length["computed_tokens"] >= alone["computed_tokens"]
    assert packed["computed_tokens"] == result["report"]["computed_tokens"] <= result["report"]["tokens"]
    assert (
        packed["cache_bytes"] == packed["computed_tokens"] * 2 * 2 * 2 * 16 * 4
    )  # K and V, layers, heads, width, fp32
    assert padded["peak_bytes"] is None
    assert packed["same_tokens"] == 5


def test_a_shape_without_weights_will_do(run, model, prompts, tmp_path):
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    code, out, _ = run(tmp_path, prompts, "--random-weights", "--tokenizer", "bytes", "--limit", 3)
    assert code == 0
    assert out.startswith("3 prompts")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["MODEL", "missing.jsonl"], 1, "does not exist"),
        (["missing", "PROMPTS"], 2, "does not exist"),
        (["EMPTY", "PROMPTS", "--tokenizer", "bytes"], 1, "cannot be loaded as a causal language model"),
        (["MODEL", "PROMPTS", "--text-field", "prompt"], 1, "line 1"),
        (["MODEL", "BLANK"], 1, "prompt 1 has no tokens"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    run, model, prompts, write_jsonl, tmp_path, arguments, code, words
):
    (tmp_path / "empty").mkdir()
    blank = write_jsonl([{"text": "word"}, {"text": ""}], "blank.jsonl")
    names = {"MODEL": model, "PROMPTS": prompts, "EMPTY": tmp_path / "empty", "BLANK": blank}
    found, _, err = run(*(names.get(word, word) for word in arguments))
    assert found == code
    assert words in err
