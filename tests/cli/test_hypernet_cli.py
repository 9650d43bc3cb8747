"""``tersely train hypernet`` and ``tersely swap --method hypernet`` as a user meets them."""

import json
import signal
import sys

import pytest
from small import tiny_llama
from small_tokenizers import SENTENCES, byte_level, fast

from tersely.cli.main import main


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process: the exit code and both outputs."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tersely", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hypernet") / "model"
    tokenizer = fast(byte_level(), bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    tiny_llama(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, pad_token_id=None).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


def test_a_network_is_trained_and_swaps_by_it(run, model, tmp_path, write_jsonl):
    corpus = write_jsonl([{"text": text} for text in SENTENCES])
    train = ["train", "hypernet", model, corpus, "--batch", 2, "--workers", 0, "--device", "cpu"]
    code, out, err = run(*train, "--steps", 2, "--out", tmp_path / "network", "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["steps"] == 2
    assert 0 < result["held_out"] < 100
    assert (tmp_path / "network/loss.svg").exists()
    code, _, err = run(*train, "--steps", 2, "--out", tmp_path / "network")
    assert code == 1
    assert "not empty" in err

    byte_level(520).save(str(tmp_path / "tokenizer.json"))
    swap = ["swap", model, tmp_path / "tokenizer.json", tmp_path / "out", "--method", "hypernet"]
    code, out, err = run(*swap, "--hypernet", tmp_path / "network", "--corpus", corpus)
    assert (code, err) == (0, "")
    assert "by hypernet" in out
    assert "predicted" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "hypernet", "MODEL", "--steps", "1"], 2, "MODEL CORPUS"),
        (["train", "hypernet", "MODEL", "missing.jsonl"], 2, "--minutes"),
        (["train", "hypernet", "MODEL", "missing.jsonl", "--steps", "1", "--minutes", "1"], 2, "one of them"),
        (["train", "hypernet", "MODEL", "missing.jsonl", "--steps", "1"], 1, "does not exist"),
        (["train", "hypernet", "MODEL", "x", "--steps", "1", "--vocab-size", "9"], 2, "not for hypernet"),
        (["train", "bpe", "missing.jsonl", "--vocab-size", "300", "--steps", "1"], 2, "is for hypernet"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(run, model, tmp_path, arguments, code, words):
    named = [model if word == "MODEL" else word for word in arguments]
    found, _, err = run(*named, "--out", tmp_path / "out")
    assert found == code
    assert words in err
    assert not (tmp_path / "out").exists()


def test_the_method_and_its_folder_belong_together(run, model, tmp_path):
    byte_level(520).save(str(tmp_path / "tokenizer.json"))
    swap = ["swap", model, tmp_path / "tokenizer.json", tmp_path / "out"]
    for options in (["--method", "hypernet"], ["--method", "mean", "--hypernet", tmp_path]):
        code, _, err = run(*swap, *options)
        assert code == 2
        assert "give both or none" in err
    code, _, err = run(*swap, "--method", "hypernet", "--hypernet", tmp_path)
    assert code == 1
    assert "holds no hypernetwork" in err
    assert not (tmp_path / "out").exists()
