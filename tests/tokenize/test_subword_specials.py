"""Special tokens in text: kept as text, allowed by name, never met by accident."""

import json

import pytest
import tokenizers
from vocabularies import rank_file, with_added

from tersely import load_tokenizer
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.subword.tiktoken_ranks import TiktokenModel


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


def test_a_lone_surrogate_is_named(bpe_json):
    with pytest.raises(TokenizeError, match="document 1 has a lone surrogate at character 2") as caught:
        SubwordTokenizer(bpe_json).encode(["a", "bc\ud800"])
    assert caught.value.document == 1
