"""``tersely swap`` as a user meets it."""

import json
import signal
import sys

import pytest
from small import tiny_llama
from small_tokenizers import SENTENCES, byte_level, fast

from tersely.cli.main import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process: the exit code and both outputs."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tersely", "swap", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swap")
    tokenizer = fast(byte_level(), bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    tiny_llama(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, pad_token_id=None).save_pretrained(
        folder / "model"
    )
    tokenizer.save_pretrained(folder / "model")
    byte_level(520).save(str(folder / "tokenizer.json"))
    return folder / "model", folder / "tokenizer.json"


def test_a_model_gets_another_tokenizer_and_says_how_good_it_is(run, places, tmp_path, write_jsonl):
    corpus = write_jsonl([{"text": text} for text in SENTENCES[::3]])
    code, out, err = run(*places, tmp_path / "out", "--corpus", corpus)
    assert code == 0
    assert err == ""
    for words in ("by fit", "fitted", "bits per byte", "tokens per byte"):
        assert words in out
    assert (tmp_path / "out/model.safetensors").exists()
    assert (tmp_path / "out/tokenizer.json").exists()


def test_json_has_the_figures(run, places, tmp_path):
    code, out, _ = run(*places, tmp_path / "out", "--method", "mean", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["method"] == "mean"
    assert result["out"] == str(tmp_path / "out")
    assert sum(result["rows"].values()) == result["vocab_size_after"]
    assert result["quality"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["MODEL", "TOKENIZER", "OUT"], 2, "--corpus FILE"),
        (["MODEL", "missing.json", "OUT"], 2, "does not exist"),
        (["MODEL", "TOKENIZER", "FULL", "--method", "mean"], 1, "not empty"),
        (["FULL", "TOKENIZER", "OUT", "--method", "mean"], 1, "has no fast tokenizer"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(run, places, tmp_path, arguments, code, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    names = {"MODEL": places[0], "TOKENIZER": places[1], "OUT": tmp_path / "out", "FULL": tmp_path / "full"}
    found, _, err = run(*(names.get(word, word) for word in arguments))
    assert found == code
    assert words in err
    assert not (tmp_path / "out").exists()


def test_the_folder_has_a_report_a_page_and_a_line_for_each_token(run, places, tmp_path, write_jsonl):
    (tmp_path / "texts").mkdir()
    for name, part in (("en.txt", SENTENCES[::2]), ("fr.v1.txt", SENTENCES[1::2])):
        (tmp_path / "texts" / name).write_text("\n".join(part))
    out = tmp_path / "out"
    code, said, err = run(*places, out, "--corpus", tmp_path / "texts", "--distill", "2")
    assert code == 0, err
    assert "trained in 2 steps" in said
    assert "  fr: " in said
    report = json.loads((out / "swap_report.json").read_text())
    assert set(report["languages"]) == {"en", "fr"}
    tokens = [json.loads(line) for line in (out / "swap_tokens.jsonl").read_text().splitlines()]
    assert len(tokens) == report["vocab_size_after"]
    for origin, number in report["rows"].items():
        assert sum(token["origin"] == origin for token in tokens) == number
    copied = next(token for token in tokens if token["origin"] == "copied")
    assert copied["pieces"] == [copied["token"]]
    page = (out / "swap_report.html").read_text()
    for words in ("Where the rows come from", "Tokens per byte", "Lengths of rows", 'id="search"'):
        assert words in page
    held = json.loads(page.split('id="tokens">')[1].split("</script>")[0])
    assert [row[:3] for row in held] == [[one["id"], one["token"], one["origin"]] for one in tokens]


def test_the_byte_tokenizer_is_named_as_for_prepare(run, places, tmp_path):
    code, out, _ = run(places[0], "bytes", tmp_path / "out", "--method", "mean", "--json")
    assert code == 0
    assert json.loads(out)["rows"]["copied"] == 256


def test_a_tokenizer_that_is_not_there_and_training_without_texts_are_wrong_usage(run, places, tmp_path):
    code, _, err = run(places[0], tmp_path / "none.json", tmp_path / "out", "--method", "mean")
    assert code == 2
    assert "does not exist" in err
    code, _, err = run(*places, tmp_path / "out", "--method", "mean", "--distill", "2")
    assert code == 2
    assert "--corpus" in err


def test_a_donor_is_named_with_its_method_and_not_without(run, places, tmp_path):
    tiny_llama(vocab_size=520).save_pretrained(tmp_path / "donor")
    code, out, err = run(
        *places, tmp_path / "out", "--method", "omp", "--donor", tmp_path / "donor", "--json"
    )
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert rows["donated"] > 50
    assert rows["composed"] == 0
    for arguments in (["--method", "omp"], ["--method", "mean", "--donor", tmp_path / "donor"]):
        code, _, err = run(*places, tmp_path / "other", *arguments)
        assert code == 2
        assert "belong together" in err


def test_without_measuring_the_report_says_what_was_not_checked(run, places, tmp_path):
    code, out, err = run(*places, tmp_path / "out", "--method", "mean", "--no-measure")
    assert code == 0, err
    assert "outputs were not compared" in out
    assert (tmp_path / "out/swap_report.html").exists()
    code, _, err = run(*places, tmp_path / "other", "--method", "mean", "--no-measure", "--distill", "1")
    assert code == 2
    assert "--no-measure" in err
