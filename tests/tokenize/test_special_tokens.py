"""Special tokens found by their spelling, in text that may spell them."""

import pytest
import tokenizers
from chats import SPECIALS, byte_level, metaspace

from tersely import load_tokenizer
from tersely.corpus.marked import Segment, encode_marked
from tersely.errors import TokenizeError
from tersely.tokenize import SubwordTokenizer, WordTokenizer
from tersely.tokenize.specials import after_special, special_tokens

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}


def asked(text):
    return Segment(text, trained=False, trusted=False)


def template(text):
    return Segment(text, trained=False, trusted=True)


def test_special_tokens_of_every_kind_are_found_by_their_spelling(spm_model, tmp_path):
    (tmp_path / "m.model").write_bytes(spm_model)
    pieces = load_tokenizer(tmp_path / "m.model")
    ids, _ = encode_marked([(template("<s>"), asked("word </s>"), template("</s>"))], pieces)
    assert ids[0].tolist().count(pieces.eos_id) == 1
    assert ids[0][[0, -1]].tolist() == [pieces.bos_id, pieces.eos_id]
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nhi\n[\nsep\n]\n")
    bert = load_tokenizer(tmp_path / "vocab.txt")
    assert encode_marked([(template("[CLS]hi[SEP]"), asked("[SEP]"))], bert)[0].to_list() == [
        [2, 4, 3, 5, 6, 7]
    ]
    assert {token.spelling for token in special_tokens(bert)} == {"[CLS]", "[SEP]", "[PAD]"}
    named = {token.spelling for token in special_tokens(SubwordTokenizer(byte_level(), NAMED))}
    assert named == {"<s>", "</s>", *SPECIALS}
    assert special_tokens(WordTokenizer("gpt2")) == []
    allowed = SubwordTokenizer(byte_level(), NAMED, allowed_specials=["<|im_end|>"])
    assert "<|im_end|>" not in {token.spelling for token in special_tokens(allowed)}
    assert encode_marked([(asked("<|im_end|>"),)], allowed)[0].to_list() == [
        [allowed.model.token_id("<|im_end|>")]
    ]


def test_a_token_that_closes_documents_is_found_though_the_file_does_not_call_it_special():
    import tokenizers

    stored = tokenizers.Tokenizer.from_str(byte_level())
    stored.add_tokens(["<|done|>"])
    tok = SubwordTokenizer(stored.to_str(), {"eos_token": "<|done|>"}, fast=False)
    ids, _ = encode_marked([(asked("hi"), template("<|done|>"))], tok, eos=True)
    assert ids[0].tolist().count(tok.eos_id) == 1
    with pytest.raises(TokenizeError, match="cannot keep as text"):
        encode_marked([(asked("hi <|done|>"),)], tok)


def test_text_after_a_special_token_gets_a_space_only_where_the_library_puts_one():
    peer = tokenizers.Tokenizer.from_str(metaspace("first"))
    tok = SubwordTokenizer(metaspace("first"), NAMED, fast=False)
    rest = after_special(tok)
    assert [tok.encode(["hi"]).to_list()[0], rest.encode(["hi"]).to_list()[0]] == [
        peer.encode("hi").ids,
        peer.encode("<s>hi").ids[1:],
    ]
    assert rest.eos_id == tok.eos_id
    for other in (SubwordTokenizer(metaspace("always")), WordTokenizer("gpt2")):
        assert after_special(other) is other


def test_a_single_word_is_found_only_between_others():
    stored = tokenizers.Tokenizer.from_str(byte_level())
    stored.add_special_tokens([tokenizers.AddedToken("STOP", single_word=True)])
    tok = SubwordTokenizer(stored.to_str(), NAMED, fast=False)
    for text in ("STOP", "aSTOP", "STOP_", "a STOP b", "STOPSTOP", "\u00e9STOP"):
        assert encode_marked([(template(text),)], tok)[0].to_list() == [stored.encode(text).ids]
