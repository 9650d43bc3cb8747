"""Offsets of subword tokens: exact where ids give back their bytes, checked or refused elsewhere."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import TEXTS
from vocabularies import NASTY, changed, rank_file

from tersely import load_tokenizer
from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.subword.tiktoken_ranks import TiktokenModel


@pytest.mark.parametrize("kind", ["bpe", "llama", "t5", "spm", "ranks"])
def test_offsets_give_back_what_a_token_stands_for(kind, request, tmp_path, bpe_json):
    if kind == "bpe":
        tok = SubwordTokenizer(bpe_json)
    elif kind == "ranks":
        tok = SubwordTokenizer(TiktokenModel(rank_file(), "r50k_base", 1))
    elif kind == "spm":
        (tmp_path / "m.model").write_bytes(request.getfixturevalue("spm_model"))
        tok = load_tokenizer(tmp_path / "m.model")
    else:
        tok = SubwordTokenizer(request.getfixturevalue(f"{kind}_json"))
    for text in [*TEXTS[:30], *NASTY, "caf\u00e9 ab", " two  spaces ", "o\u0323k"]:
        ids, spans = tok.encode_with_offsets([text])
        assert ids.equals(tok.encode([text]))
        raw, span = text.encode(), spans.values
        assert (span[:, 0] <= span[:, 1]).all()
        assert (np.diff(span[:, 0]) >= 0).all(), ascii(text)
        if len(span):
            assert 0 <= span.min() <= span.max() <= len(raw)
        if kind in ("bpe", "ranks"):
            assert b"".join(raw[a:b] for a, b in span.tolist()) == raw
            assert [raw[a:b] for a, b in span.tolist()] == [
                tok.decode(Ragged(ids.values[i : i + 1], [0, 1]))[0] for i in range(len(ids.values))
            ]
        characters = tok.encode_with_offsets([text], unit="character")[1].values.tolist()
        for (a, b), (c, d) in zip(span.tolist(), characters, strict=True):
            assert raw[a:b] in text[c:d].encode()
            assert len(text[c:d].encode()) <= b - a + 6  # not more than the characters it touches


def test_offsets_go_through_a_normaliser_to_the_source(t5_json):
    tok = SubwordTokenizer(t5_json)
    text = "x \ufb01 a"  # a ligature, which becomes "fi"
    ids, spans = tok.encode_with_offsets([text], unit="character")
    fi = json.loads(t5_json)["model"]["vocab"].index(["fi", -2.6])
    assert text[slice(*spans.values[ids.values.tolist().index(fi)])] == "\ufb01"


def test_an_alignment_that_cannot_be_checked_is_refused_by_name(monkeypatch, t5_json):
    tok = SubwordTokenizer(t5_json)
    assert len(tok.encode_with_offsets(["a", "\ufb01"])[1].values)
    engine = tok._model._engine

    class Misaligned:
        normalizer = engine.normalizer

        def encode(self, text, add_special_tokens):
            encoding = engine.encode(text, add_special_tokens=False)
            shifted = [(a + 1, b + 1) for a, b in encoding.offsets]
            return type("E", (), {"ids": encoding.ids, "tokens": encoding.tokens, "offsets": shifted})

    monkeypatch.setattr(tok._model, "_engine", Misaligned())
    monkeypatch.setattr(tok._model, "encode", lambda texts: SubwordTokenizer(t5_json).encode(texts))
    with pytest.raises(TokenizeError, match=r"document 1 has no exact offsets.*NFKC") as caught:
        tok.encode_with_offsets(["a", "\ufb01xy"])
    assert caught.value.document == 1


@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_text_round_trips_with_exact_offsets(texts):
    tok = SubwordTokenizer(TiktokenModel(rank_file(), "cl100k_base", 2), fast=False)
    ids, spans = tok.encode_with_offsets(texts)
    assert tok.decode(ids) == [text.encode() for text in texts]
    assert [sum(b - a for a, b in row.tolist()) for row in spans] == [len(text.encode()) for text in texts]


def test_offsets_of_marks_belong_to_the_letter_only_where_they_were_composed(bpe_json, llama_json):
    tok = SubwordTokenizer(changed(bpe_json, normalizer={"type": "NFC"}), fast=False)
    text = "cafe\u0301 o\u0323k"
    ids, spans = tok.encode_with_offsets([text], unit="character")
    raw = [text[a:b] for a, b in spans.values.tolist()]
    assert "e\u0301" in raw
    assert "o\u0323" in raw
    assert len(ids.values) == len(raw)
    tok = SubwordTokenizer(llama_json, fast=False)
    spans = tok.encode_with_offsets(["e\u0301\u2581"], unit="character")[1].values.tolist()
    assert next(span for span in spans if span[0] < span[1]) == [0, 1]


def test_offsets_of_many_marks_take_no_quadratic_time(llama_json):
    tok = SubwordTokenizer(llama_json, fast=False)
    text = "A" + "\u0301" * 30_000 + "\u2581"
    ids, spans = tok.encode_with_offsets([text])
    assert len(spans.values) == len(ids.values) > 30_000


def test_pieces_that_only_look_like_bytes_are_text(llama_json):
    content = json.loads(llama_json)
    content["model"]["vocab"]["<0xZZ>"] = len(content["model"]["vocab"])
    tok = SubwordTokenizer(json.dumps(content))
    assert tok.decode(Ragged(np.array([tok.vocab_size - 1]), [0, 1])) == [b"<0xZZ>"]


def test_the_space_put_before_a_text_has_an_empty_range(llama_json):
    tok = SubwordTokenizer(llama_json, fast=False)
    for text in ["\n\u2581", "\x85a\u2581", "\U0001f1e9\u2581", "b\u2581"]:
        spans = tok.encode_with_offsets([text])[1].values.tolist()
        assert spans[0] == [0, 0], ascii(text)
        assert all(stop <= start for (_, stop), (start, _) in zip(spans[:-1], spans[1:], strict=True)), ascii(
            text
        )
