"""Rank files, SentencePiece models, offsets, threads, allowed specials and gigatoken, each against its own library."""

import base64
import io
import json
import os
import subprocess
import sys
import unicodedata
import warnings

import numpy as np
import pytest
import sentencepiece
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from small import TEXTS

from tersely import load_tokenizer
from tersely.errors import TokenizeError, UsageError
from tersely.ragged import Ragged
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.subword import fast as fast_module
from tersely.tokenize.subword.fast import PROBES
from tersely.tokenize.subword.tiktoken_ranks import ENCODINGS, Encoding, TiktokenModel

NASTY = [
    *PROBES,
    "a" * 5000,
    "na\u00efve \U0001f600!",
    "\t\t x\r\n\r\ny ",
    "\u00bd \ufb01 \u1e9b\u0323 o\u0323\u0301",
]
SPLIT = r"\p{L}+|\p{N}+|[^\p{L}\p{N}]"


def rank_file():
    """All bytes, and some merges."""
    tokens = [bytes([byte]) for byte in range(256)] + [
        b"th",
        b"the",
        b"aa",
        b"aaa",
        b"aaaa",
        b"\xc3\xa9",
        b"  ",
    ]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


@pytest.fixture(scope="session")
def spm_model():
    """A small Unigram model with byte fallback, as the library trains it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3), model_writer=model, vocab_size=400, byte_fallback=True, minloglevel=9,
        hard_vocab_limit=False, character_coverage=1.0,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="session")
def llama_json():
    """A BPE of Llama 2's kind: a space put before the text, byte fallback, its own special tokens in the vocabulary."""
    model = tokenizers.models.BPE(
        {"<unk>": 0, "<s>": 1, "</s>": 2}
        | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
        | {piece: 259 + i for i, piece in enumerate(["\u2581", "a", "b", "\u2581a", "ab", "\u2581ab", "\u2581\u2581"])},
        [("\u2581", "a"), ("a", "b"), ("\u2581", "ab"), ("\u2581", "\u2581")],
        unk_token="<unk>", fuse_unk=True, byte_fallback=True,
    )  # fmt: skip
    tok = tokenizers.Tokenizer(model)
    tok.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")]
    )
    tok.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("\u2581", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tok.to_str()


@pytest.fixture(scope="session")
def t5_json():
    """A Unigram vocabulary behind a normaliser that changes characters."""
    characters = sorted({c for text in TEXTS for c in unicodedata.normalize("NFKC", text) if not c.isspace()})
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("\u2581", -2.0), ("\u2581a", -2.5), ("fi", -2.6)]
    tok = tokenizers.Tokenizer(
        tokenizers.models.Unigram([*pieces, *((c, -5.0) for c in characters)], unk_id=0)
    )
    tok.normalizer = tokenizers.normalizers.NFKC()
    tok.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tok.decoder = tokenizers.decoders.Metaspace()
    tok.add_special_tokens(["<unk>", "</s>"])
    return tok.to_str()


def test_ids_of_a_rank_file_are_tiktokens(tmp_path):
    peer = tiktoken.Encoding(
        "cl100k_base", pat_str=ENCODINGS["cl100k_base"].pattern, special_tokens={"<|endoftext|>": 300},
        mergeable_ranks={base64.b64decode(a): int(b) for a, b in map(bytes.split, rank_file().splitlines())},
    )  # fmt: skip
    (tmp_path / "cl100k_base.tiktoken").write_bytes(rank_file())
    tok = load_tokenizer(tmp_path / "cl100k_base.tiktoken")
    texts = [*TEXTS, *NASTY, "<|endoftext|>"]
    assert tok.encode(texts).to_list() == [peer.encode_ordinary(text) for text in texts]
    assert tok.decode(tok.encode(texts)) == [text.encode() for text in texts]
    assert tok.eos_id == 100257
    assert tok.encode(["a"], eos=True).to_list() == [[97, 100257]]


def test_the_known_patterns_are_tiktokens():
    from tiktoken_ext import openai_public

    source = {name: getattr(openai_public, name).__code__.co_consts for name in ENCODINGS}
    assert ENCODINGS["cl100k_base"].pattern in source["cl100k_base"]
    assert ENCODINGS["r50k_base"].pattern == openai_public.r50k_pat_str
    parts = next(part for part in source["o200k_base"] if isinstance(part, tuple) and len(part) > 5)
    assert ENCODINGS["o200k_base"].pattern == "|".join(parts)


def test_a_rank_file_of_an_unknown_name_needs_its_pattern(tmp_path):
    (tmp_path / "mine.tiktoken").write_bytes(rank_file())
    with pytest.raises(TokenizeError, match=r"mine.*none of r50k_base"):
        load_tokenizer(tmp_path / "mine.tiktoken")
    model = TiktokenModel(rank_file(), "mine", 1, Encoding(pattern=SPLIT, specials={"<end>": 500}))
    tok = SubwordTokenizer(model, {"eos_token": "<end>"})
    tok.save(tmp_path / "saved")
    back = load_tokenizer(tmp_path / "saved")
    assert back.fingerprint == tok.fingerprint
    assert back.encode(["the <end>"], eos=True).equals(tok.encode(["the <end>"], eos=True))
    assert back.vocab_size == 501


@pytest.mark.parametrize("line", [b"!!! 5", b"YQ==", b"YQ== x", b"YQ== 3 4", b"YWI= 0", b"YQ== 900"])
def test_rank_files_with_bad_lines_are_refused_with_their_line(tmp_path, line):
    (tmp_path / "r50k_base.tiktoken").write_bytes(rank_file() + line + b"\n")
    with pytest.raises(TokenizeError, match=r"r50k_base.tiktoken.*(line 264|twice)"):
        load_tokenizer(tmp_path / "r50k_base.tiktoken")


def test_ids_of_a_sentencepiece_model_are_its_librarys(tmp_path, spm_model):
    peer = sentencepiece.SentencePieceProcessor(model_proto=spm_model)
    (tmp_path / "m.model").write_bytes(spm_model)
    tok = load_tokenizer(tmp_path / "m.model")
    texts = [*TEXTS, *NASTY, "a</s><s>b"]
    ids = tok.encode(texts)
    assert ids.to_list() == [peer.encode(text) for text in texts]
    assert [text.decode() for text in tok.decode(ids)] == [peer.decode(peer.encode(text)) for text in texts]
    assert (tok.bos_id, tok.eos_id, tok.pad_id) == (1, 2, None)
    tok.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == tok.fingerprint
    (tmp_path / "tokenizer.model.v3").write_bytes(spm_model)  # as Mistral names its files
    assert load_tokenizer(tmp_path / "tokenizer.model.v3").fingerprint == tok.fingerprint


def test_files_that_are_no_sentencepiece_model_are_refused(tmp_path):
    (tmp_path / "m.model").write_bytes(b"not a model")
    with pytest.raises(TokenizeError, match=r"m\.model: not a SentencePiece model"):
        load_tokenizer(tmp_path / "m.model")


def test_decoding_equals_the_librarys_where_that_keeps_bytes(llama_json, t5_json, bpe_json):
    for content in (llama_json, t5_json, bpe_json):
        tok, peer = SubwordTokenizer(content), tokenizers.Tokenizer.from_str(content)
        for text in ["ab a  b", " ab", "a\u00e9\U0001f600", "fi </s> Document 5", *TEXTS[:20]]:
            ids = tok.encode([text])
            assert tok.decode(ids)[0].decode() == peer.decode(ids.to_list()[0]), ascii(text)


def test_half_a_character_decodes_to_its_bytes(bpe_json, llama_json, spm_model, tmp_path):
    (tmp_path / "m.model").write_bytes(spm_model)
    for tok in (
        SubwordTokenizer(bpe_json),
        SubwordTokenizer(llama_json),
        load_tokenizer(tmp_path / "m.model"),
    ):
        ids = tok.encode(["\U0001fae0"])
        whole = tok.decode(ids)[0]
        halves = [tok.decode(Ragged(ids.values[:cut], [0, cut]))[0] for cut in range(len(ids.values) + 1)]
        assert whole.decode() == "\U0001fae0"
        assert all(whole.startswith(half) for half in halves)
        assert len(set(halves)) >= 4


def test_a_special_of_the_vocabulary_spelled_in_text_stays_text(llama_json, t5_json):
    tok = SubwordTokenizer(llama_json, {"eos_token": "</s>"})
    ids = tok.encode(["a</s>b", "<s>"])
    assert tok.decode(ids) == [b"a</s>b", b"<s>"]
    assert not {1, 2} & set(ids.values.tolist())
    assert 1 not in SubwordTokenizer(t5_json, {"eos_token": "</s>"}).encode(["a</s>"]).values


def test_specials_that_are_allowed_by_name_are_found_in_text(bpe_json, tmp_path):
    stored = tokenizers.Tokenizer.from_str(bpe_json)
    stored.add_special_tokens(["<|im|>", "<|im|>x"])
    peer = tokenizers.Tokenizer.from_str(stored.to_str())
    tok = SubwordTokenizer(
        stored.to_str(), {"eos_token": "<|endoftext|>"}, allowed_specials=["<|im|>", "<|im|>x"]
    )
    texts = ["<|im|>a<|im|>x b<|endoftext|>", "", "<|im|>", "plain", "<|im|><|im|>"]
    ids = tok.encode(texts, eos=True)
    expected = [
        [t for part in text.split("<|endoftext|>") for t in peer.encode(part).ids] for text in texts[1:]
    ]
    assert [row[:-1] for row in ids.to_list()[1:]] == expected
    assert ids.to_list()[0].count(tok.eos_id) == 1
    assert tok.decode(ids, eos=True) == [text.encode() for text in texts]
    spans = tok.encode_with_offsets(texts)[1]
    assert texts[0].encode()[slice(*spans[0][0])] == b"<|im|>"
    tok.save(tmp_path)
    assert load_tokenizer(tmp_path).encode(texts, eos=True).equals(ids)
    assert load_tokenizer(tmp_path, allowed_specials=[]).fingerprint != tok.fingerprint
    with pytest.raises(TokenizeError, match="<none>"):
        SubwordTokenizer(stored.to_str(), allowed_specials=["<none>"])
    ranks = SubwordTokenizer(TiktokenModel(rank_file(), "r50k_base", 1, allowed=["<|endoftext|>"]))
    assert ranks.encode(["a<|endoftext|>"]).to_list() == [[97, 50256]]
    assert ranks.decode(ranks.encode(["a<|endoftext|>"])) == [b"a<|endoftext|>"]


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


def changed(content, **parts):
    """A tokenizer.json with some of its parts replaced."""
    return json.dumps(json.loads(content) | parts)


def with_added(content, text, **flags):
    """A tokenizer.json with one more added token."""
    stored = tokenizers.Tokenizer.from_str(content)
    stored.add_tokens([tokenizers.AddedToken(text, special=False, **flags)])
    return stored.to_str()


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


def test_added_tokens_behind_specials_keep_their_ids(bpe_json):
    stored = tokenizers.Tokenizer.from_str(bpe_json)
    stored.add_special_tokens(["<A>", "<B>"])
    stored.add_tokens(["<tool>", "</tool>"])
    text = "x<tool> y</tool><A>"
    peer = tokenizers.Tokenizer.from_str(stored.to_str())
    peer.encode_special_tokens = True
    tok = SubwordTokenizer(stored.to_str(), fast=False)
    assert tok.encode([text]).to_list() == [peer.encode(text).ids]
    assert tok.decode(tok.encode([text])) == [text.encode()]


DECODERS = tokenizers.decoders


@pytest.mark.parametrize(
    "decoder",
    [
        DECODERS.Metaspace(),
        DECODERS.Metaspace(prepend_scheme="never"),
        DECODERS.ByteFallback(),
        DECODERS.Fuse(),
        DECODERS.BPEDecoder(),
        DECODERS.Sequence([DECODERS.Replace("\u2581", " "), DECODERS.Strip(" ", 1, 0)]),
        DECODERS.Sequence([DECODERS.Replace("\u2581", " "), DECODERS.ByteFallback(), DECODERS.Fuse()]),
        DECODERS.Sequence(
            [
                DECODERS.Replace("\u2581", " "),
                DECODERS.ByteFallback(),
                DECODERS.Fuse(),
                DECODERS.Strip(" ", 1, 0),
            ]
        ),
        DECODERS.Sequence(
            [
                DECODERS.Replace("\u2581", " "),
                DECODERS.ByteFallback(),
                DECODERS.Strip(" ", 1, 0),
                DECODERS.Fuse(),
            ]
        ),
        DECODERS.Sequence([DECODERS.Strip(" ", 1, 0), DECODERS.Replace("\u2581", " ")]),
    ],
    ids=str,
)
def test_every_decoder_gives_what_the_librarys_gives(llama_json, decoder):
    stored = tokenizers.Tokenizer.from_str(llama_json)
    stored.decoder = decoder
    tok = SubwordTokenizer(stored.to_str(), fast=False)
    names = [
        "\u2581a",
        "\u2581a",
        "a",
        "\u2581\u2581",
        "<0x41>",
        "b",
        "</s>",
        "\u2581",
        "\u2581\u2581",
        "\u2581a",
    ]
    ids = [stored.token_to_id(name) for name in names]
    rows = [ids[start:stop] for start in range(len(ids)) for stop in range(start, len(ids) + 1)]
    expected = [stored.decode(row).encode() for row in rows]
    assert tok.decode(Ragged.from_rows(rows, np.int64)) == expected


def test_an_end_id_is_left_out_whatever_its_kind(llama_json, bpe_json):
    content = json.loads(llama_json)
    for token in content["added_tokens"]:
        token["special"] = token["content"] != "</s>"
    tok = SubwordTokenizer(json.dumps(content), {"eos_token": "</s>"})
    assert tok.decode(tok.encode(["ab"], eos=True), eos=True) == [b"ab"]
    word = SubwordTokenizer(bpe_json, {"eos_token": "w"})
    assert word.decode(word.encode(["hi w"], eos=True), eos=True) == [b"hi w"]


def test_allowed_specials_are_found_as_the_library_finds_them(llama_json):
    for flags in ({}, {"rstrip": True}, {"lstrip": True}, {"single_word": True}, {"normalized": False}):
        stored = tokenizers.Tokenizer.from_str(llama_json)
        stored.add_special_tokens([tokenizers.AddedToken("<u>", special=True, **flags)])
        tok = SubwordTokenizer(stored.to_str(), allowed_specials=["<u>"], fast=False)
        for text in ["a <u> b", "<u>a<u>", "a\n<u>\nb", "<u><u> ab"]:
            assert tok.encode([text]).to_list() == [stored.encode(text).ids], (flags, text)


def test_a_string_of_allowed_specials_is_refused(bpe_json, tmp_path):
    with pytest.raises(UsageError, match="list of tokens"):
        SubwordTokenizer(bpe_json, allowed_specials="<|endoftext|>")
    (tmp_path / "tokenizer.json").write_text(bpe_json)
    with pytest.raises(UsageError, match="list of tokens"):
        load_tokenizer(tmp_path, allowed_specials="<|endoftext|>")
    with pytest.raises(TokenizeError, match="no added token"):
        SubwordTokenizer(bpe_json, allowed_specials=["w"])
    with pytest.raises(UsageError, match="finds no special tokens"):
        load_tokenizer("bytes", allowed_specials=["</s>"])


def test_a_named_special_is_never_text(bpe_json):
    tok = SubwordTokenizer(with_added(bpe_json, "<pad>"), {"pad_token": "<pad>"})
    with pytest.raises(TokenizeError, match="document 0 spells"):
        tok.encode(["a<pad>"])


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


def test_ids_outside_the_vocabulary_are_refused(bpe_json):
    tok = SubwordTokenizer(bpe_json)
    for number in (-1, tok.vocab_size):
        with pytest.raises(TokenizeError, match="outside"):
            tok.decode(Ragged(np.array([number]), [0, 1]))


def test_folders_with_a_rank_file_or_a_model_load(tmp_path, spm_model):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "r50k_base.tiktoken").write_bytes(rank_file())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "tokenizer.model").write_bytes(spm_model)
    assert load_tokenizer(tmp_path / "a").eos_id == 50256
    assert load_tokenizer(tmp_path / "b").eos_id == 2


def test_a_byte_order_mark_before_a_tokenizer_json_is_no_fault(tmp_path, bpe_json):
    (tmp_path / "tokenizer.json").write_text(bpe_json, encoding="utf-8-sig")
    assert load_tokenizer(tmp_path).encode(["word"]).equals(SubwordTokenizer(bpe_json).encode(["word"]))


def test_a_lone_surrogate_is_named(bpe_json):
    with pytest.raises(TokenizeError, match="document 1 has a lone surrogate at character 2") as caught:
        SubwordTokenizer(bpe_json).encode(["a", "bc\ud800"])
    assert caught.value.document == 1


def test_gigatoken_is_not_used_for_added_tokens_with_conditions(bpe_json):
    pytest.importorskip("gigatoken", reason="the extra 'fast' is not installed")
    with pytest.warns(UserWarning, match="conditions"):
        assert not SubwordTokenizer(with_added(bpe_json, "foobarq", single_word=True)).fast
    assert SubwordTokenizer(with_added(bpe_json, "<tool>")).fast


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
    monkeypatch.setattr(fast_module, "_gigatoken", lambda model: StandIn(model, "poison"))
    tok = SubwordTokenizer(bpe_json)
    assert tok.fast
    assert tok.encode(TEXTS).equals(plain.encode(TEXTS))
    with pytest.warns(UserWarning, match="without gigatoken"):
        ids = tok.encode(["a", "poison", "b"])
    assert ids.equals(plain.encode(["a", "poison", "b"]))
    assert not tok.fast
    assert tok.encode(TEXTS).equals(plain.encode(TEXTS))


def test_a_fast_engine_that_fails_the_probes_is_not_used(monkeypatch, bpe_json):
    monkeypatch.setitem(sys.modules, "gigatoken", object())
    monkeypatch.setattr(fast_module, "_gigatoken", lambda model: StandIn(model, "quick brown"))
    with pytest.warns(UserWarning, match="other ids"):
        assert not SubwordTokenizer(bpe_json).fast


def test_every_job_is_checked_anew(monkeypatch, bpe_json):
    monkeypatch.setitem(sys.modules, "gigatoken", object())
    monkeypatch.setattr(fast_module, "_gigatoken", lambda model: StandIn(model, "poison"))
    monkeypatch.setattr(fast_module, "CHECKED_CHARACTERS", 10)
    tok = SubwordTokenizer(bpe_json)
    tok.encode(["more than ten characters"])
    assert tok.fast
    tok.new_job()
    with pytest.warns(UserWarning, match="without gigatoken"):
        tok.encode(["poison"])


def test_gigatoken_gives_the_librarys_ids(bpe_json, llama_json):
    pytest.importorskip("gigatoken", reason="the extra 'fast' is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tok = SubwordTokenizer(bpe_json)
    assert tok.fast
    texts = [*TEXTS, *NASTY]
    assert tok.encode(texts).equals(SubwordTokenizer(bpe_json, fast=False).encode(texts))
    with pytest.raises(TokenizeError, match="document 1") as caught:
        tok.encode(["a", "\ud800"])
    assert caught.value.document == 1


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    ["gpt2/tokenizer.json", "phi-3-mini/tokenizer.json", "t5-small/tokenizer.json", "cl100k_base.tiktoken",
     "sentencepiece/test_sentencepiece.model", "sentencepiece/test_sentencepiece_with_bytefallback.model"],
)  # fmt: skip
def test_ids_equal_their_own_librarys_in_two_hundred_languages(shared, name):
    from tersely.corpus import find_sources

    file = shared / "tokenizers" / name
    source = find_sources([shared / "multilingual" / "udhr.jsonl.zst"])[0][0]
    texts = [text[:1500] for batch in source.batches() for text in batch.texts]
    texts += json.loads((shared / "fixtures" / "blns.json").read_text())
    texts = [text for text in texts if "</s>" not in text]
    tok = load_tokenizer(file)
    if file.suffix == ".json":
        peer = tokenizers.Tokenizer.from_file(str(file))
        peer.no_truncation()
        peer.no_padding()
        expected = [encoding.ids for encoding in peer.encode_batch(texts, add_special_tokens=False)]
    elif file.suffix == ".model":
        expected = sentencepiece.SentencePieceProcessor(model_file=str(file)).encode(texts)
    else:
        ranks = {base64.b64decode(a): int(b) for a, b in map(bytes.split, file.read_bytes().splitlines())}
        pattern = ENCODINGS["cl100k_base"].pattern
        peer = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        expected = [peer.encode_ordinary(text) for text in texts]
    ids, spans = tok.encode_with_offsets(texts)
    assert ids.to_list() == expected
    assert len(texts) > 600
    assert len(spans.values) == len(ids.values)
    if name in ("gpt2/tokenizer.json", "cl100k_base.tiktoken", "phi-3-mini/tokenizer.json"):
        assert tok.decode(ids) == [text.encode() for text in texts]
