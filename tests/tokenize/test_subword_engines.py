"""Threads, long documents in parts, and gigatoken: faster ways to the same ids."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import sentencepiece
import tokenizers
from small import TEXTS
from vocabularies import NASTY, changed, with_added

from tersely import load_tokenizer
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.subword import gigatoken_engine


def test_ids_do_not_depend_on_threads(bpe_json, llama_json, spm_model, tmp_path):
    (tmp_path / "m.model").write_bytes(spm_model)
    texts = [*TEXTS, *NASTY] * 3
    for source in (bpe_json, llama_json):
        one, many = SubwordTokenizer(source, threads=1), SubwordTokenizer(source, threads=5)
        assert one.encode(texts).equals(many.encode(texts))
        assert one.fingerprint == many.fingerprint
    one, many = (load_tokenizer(tmp_path / "m.model", threads=n) for n in (1, 3))
    assert one.encode(texts).equals(many.encode(texts))
    with pytest.raises(UsageError, match="threads is 0"):
        SubwordTokenizer(bpe_json, threads=0)


def test_long_documents_in_parts_have_the_ids_of_the_whole(monkeypatch, bpe_json, llama_json, t5_json):
    for content in (bpe_json, llama_json, t5_json):
        tok = SubwordTokenizer(content, fast=False)
        peer = tokenizers.Tokenizer.from_str(content)
        monkeypatch.setattr("tersely.tokenize.subword.cuts.PART", 40)
        texts = [" ".join(TEXTS[:60]), "ab a b  ab" * 50, "a" * 300, "x y z \n a b " * 40, ""]
        assert tok._model._cutter is not None
        assert len(tok._model._cutter.cut(texts[0], 40)) > 20
        assert tok.encode(texts).to_list() == [peer.encode(text).ids for text in texts]


def test_long_documents_of_sentencepiece_models_in_parts_have_the_ids_of_the_whole(
    monkeypatch, tmp_path, spm_model
):
    (tmp_path / "m.model").write_bytes(spm_model)
    monkeypatch.setattr("tersely.tokenize.subword.cuts.PART", 40)
    tok, peer = (
        load_tokenizer(tmp_path / "m.model"),
        sentencepiece.SentencePieceProcessor(model_proto=spm_model),
    )
    texts = [" ".join(TEXTS[:60]), "Zab QQ  a b x" * 50, "a" * 300, "x y z \n a b " * 40, ""]
    assert len(tok._model._cutter.cut(texts[0], 40)) > 20
    assert tok.encode(texts).to_list() == [peer.encode(text) for text in texts]


@pytest.mark.parametrize(
    "flags",
    [{"rstrip": True}, {"lstrip": True}, {"single_word": True}, {"normalized": False}, {"normalized": True}],
    ids=str,
)
@pytest.mark.parametrize("text", ["foo", " foo", "<a b>", "<a\u00a0b>", "a>"])
def test_documents_are_not_cut_at_added_tokens(bpe_json, llama_json, text, flags):
    for content in (bpe_json, llama_json):
        assert SubwordTokenizer(with_added(content, text, **flags), fast=False)._model._cutter is None


def test_documents_are_cut_beside_added_tokens_that_no_cut_can_touch(monkeypatch, bpe_json, llama_json):
    monkeypatch.setattr("tersely.tokenize.subword.cuts.PART", 20)
    for content in (bpe_json, llama_json):
        stored = with_added(content, "<tool>", normalized=False)
        tok, peer = SubwordTokenizer(stored, fast=False), tokenizers.Tokenizer.from_str(stored)
        assert tok._model._cutter is not None
        text = "a b <tool> a b<tool>c d <tool><tool> e f " * 30
        assert tok.encode([text]).to_list() == [peer.encode(text).ids]


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "Replace", "pattern": {"String": "d w"}, "content": "q"}},
        {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 5}},
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "a b|."},
                "behavior": "Isolated",
                "invert": False,
            }
        },
        {
            "pre_tokenizer": {
                "type": "Metaspace",
                "replacement": "_",
                "prepend_scheme": "never",
                "split": False,
            }
        },
    ],
    ids=lambda parts: next(iter(parts.values()))["type"],
)
def test_documents_are_not_cut_under_rules_that_may_look_further(bpe_json, parts):
    assert SubwordTokenizer(changed(bpe_json, **parts), fast=False)._model._cutter is None


def test_documents_are_not_cut_where_unknown_letters_and_spaces_fuse():
    model = tokenizers.models.BPE({"<unk>": 0, "a": 1, "o": 2}, [], unk_token="<unk>", fuse_unk=True)
    tok = SubwordTokenizer(tokenizers.Tokenizer(model).to_str(), fast=False)
    assert tok.encode(["az zo"]).to_list() == [[1, 0, 2]]
    assert tok._model._cutter is None


def test_a_vocabulary_with_pieces_across_words_is_not_cut(bpe_json):
    content = json.loads(bpe_json)
    content["model"]["vocab"]["d\u0120w"] = len(content["model"]["vocab"])
    assert SubwordTokenizer(json.dumps(content), fast=False)._model._cutter is None


def test_gigatoken_is_not_used_for_added_tokens_with_conditions(bpe_json):
    pytest.importorskip("gigatoken", reason="the extra 'fast' is not installed")
    with pytest.warns(UserWarning, match="conditions"):
        tok = SubwordTokenizer(with_added(bpe_json, "foobarq", single_word=True))
    assert tok.engine == "the engine for words"
    assert SubwordTokenizer(with_added(bpe_json, "<tool>")).engine == "gigatoken"


def test_a_fork_after_threads_neither_warns_nor_stands_still(bpe_json, tmp_path):
    (tmp_path / "tokenizer.json").write_text(bpe_json)
    code = f"""
import os, sys, warnings
import tersely
tok = tersely.load_tokenizer({str(tmp_path)!r}, threads=3)
texts = ["Document %d word" % i for i in range(300)]
ids = tok.encode(texts)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
if child == 0:
    os._exit(0 if tok.encode(texts).equals(ids) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "fork" not in done.stderr


class StandIn:
    """A fast engine that is right about everything but one word."""

    def __init__(self, right, wrong_about="never"):
        self.right, self.wrong_about = right, wrong_about

    def encode_batch(self, texts, parallel):
        rows = [list(row) for row in self.right.encode(texts).to_list()]
        for row, text in zip(rows, texts, strict=True):
            if self.wrong_about in text:
                row[0] += 1

        class Layout:
            offsets = type("Buffer", (), {"data": np.cumsum([0, *map(len, rows)])})
            content = type("Buffer", (), {"data": np.array([i for row in rows for i in row], np.uint32)})

        return type("Array", (), {"layout": Layout})


def test_a_fast_engine_is_left_at_the_first_difference(monkeypatch, bpe_json):
    plain = SubwordTokenizer(bpe_json, fast=False)
    monkeypatch.setitem(sys.modules, "gigatoken", object())
    monkeypatch.setattr(gigatoken_engine, "_gigatoken", lambda model: StandIn(model, "poison"))
    tok = SubwordTokenizer(bpe_json)
    assert tok.engine == "gigatoken"
    assert tok.encode(TEXTS).equals(plain.encode(TEXTS))
    with pytest.warns(UserWarning, match="without gigatoken"):
        ids = tok.encode(["a", "poison", "b"])
    assert ids.equals(plain.encode(["a", "poison", "b"]))
    assert tok.engine == "library"
    assert tok.encode(TEXTS).equals(plain.encode(TEXTS))


def test_a_fast_engine_that_fails_the_probes_is_not_used(monkeypatch, bpe_json):
    monkeypatch.setitem(sys.modules, "gigatoken", object())
    monkeypatch.setattr(gigatoken_engine, "_gigatoken", lambda model: StandIn(model, "quick brown"))
    with pytest.warns(UserWarning, match="other ids"):
        assert SubwordTokenizer(bpe_json).engine == "the engine for words"


def test_every_job_is_checked_anew(monkeypatch, bpe_json):
    monkeypatch.setitem(sys.modules, "gigatoken", object())
    monkeypatch.setattr(gigatoken_engine, "_gigatoken", lambda model: StandIn(model, "poison"))
    monkeypatch.setattr(gigatoken_engine, "CHECKED_CHARACTERS", 10)
    tok = SubwordTokenizer(bpe_json)
    tok.encode(["more than ten characters"])
    assert tok.engine == "gigatoken"
    tok.new_job()
    with pytest.warns(UserWarning, match="without gigatoken"):
        tok.encode(["poison"])


def test_gigatoken_gives_the_librarys_ids(bpe_json, llama_json):
    pytest.importorskip("gigatoken", reason="the extra 'fast' is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tok = SubwordTokenizer(bpe_json)
    assert tok.engine == "gigatoken"
    texts = [*TEXTS, *NASTY]
    assert tok.encode(texts).equals(SubwordTokenizer(bpe_json, fast=False).encode(texts))
    with pytest.raises(TokenizeError, match="document 1") as caught:
        tok.encode(["a", "\ud800"])
    assert caught.value.document == 1
