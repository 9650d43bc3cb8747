"""Subword tokenizers: the library's ids, without what a stored file may do to a corpus."""

import json

import numpy as np
import pytest
import tokenizers

from tersely import load_tokenizer
from tersely.errors import TokenizeError
from tersely.tokenize import SubwordTokenizer, Tokenizer

TEXTS = ["Document 5: word word", "", "\u00e9\u4e2d\U0001f600 unseen \x00 bytes", "a\n\n\tb  c"]


def test_ids_equal_the_librarys_own(bpe_json):
    tok, peer = SubwordTokenizer(bpe_json), tokenizers.Tokenizer.from_str(bpe_json)
    assert tok.encode(TEXTS).to_list() == [peer.encode(text).ids for text in TEXTS]
    assert tok.decode(tok.encode(TEXTS)) == [text.encode() for text in TEXTS]
    assert isinstance(tok, Tokenizer)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["gpt2", "phi-3-mini", "t5-small"])
def test_ids_equal_the_librarys_on_shared_text(shared, name):
    from tersely.corpus import find_sources

    file = shared / "tokenizers" / name / "tokenizer.json"
    tok, peer = load_tokenizer(file), tokenizers.Tokenizer.from_file(str(file))
    peer.no_truncation()
    peer.no_padding()
    for source in find_sources([shared / "prose" / "repo_docs.jsonl.zst"])[0]:
        texts = [text[:3000] for text in next(iter(source.batches())).texts if "<" not in text[:3000]]
        expected = [encoding.ids for encoding in peer.encode_batch(texts, add_special_tokens=False)]
        assert tok.encode(texts).to_list() == expected
        assert len(texts) > 20


def test_stored_truncation_and_padding_are_switched_off(bpe_json):
    stored = tokenizers.Tokenizer.from_str(bpe_json)
    stored.enable_truncation(2)
    stored.enable_padding(length=50)
    text = "Document 5: word word word"
    assert len(stored.encode(text).ids) == 50  # the peer cuts and fills
    tok = SubwordTokenizer(stored.to_str())
    assert tok.decode(tok.encode([text])) == [text.encode()]
    assert tok.fingerprint == SubwordTokenizer(bpe_json).fingerprint


def test_special_spellings_in_documents_stay_text(bpe_json):
    tok = SubwordTokenizer(bpe_json, {"eos_token": "<|endoftext|>"})
    ids = tok.encode(["a<|endoftext|>b"], eos=True).to_list()[0]
    assert ids.count(tok.eos_id) == 1
    assert ids[-1] == tok.eos_id
    assert (
        tokenizers.Tokenizer.from_str(bpe_json).encode("a<|endoftext|>b").ids.count(tok.eos_id) == 1
    )  # the peer's


def test_post_processors_add_nothing_by_themselves(bpe_json):
    stored = tokenizers.Tokenizer.from_str(bpe_json)
    stored.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert stored.encode("word").ids[0] == 0
    assert SubwordTokenizer(stored.to_str()).encode(["word"]).to_list()[0][0] != 0


def test_specials_come_from_the_files_beside(tmp_path, bpe_json):
    (tmp_path / "tokenizer.json").write_text(bpe_json)
    assert load_tokenizer(tmp_path).eos_id == 0  # by its usual spelling
    assert load_tokenizer(tmp_path / "tokenizer.json").eos_id == 0
    config = {"bos_token": {"content": "<|endoftext|>"}, "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tok = load_tokenizer(tmp_path)
    assert (tok.bos_id, tok.eos_id, tok.pad_id) == (0, None, None)
    assert tok.encode(["word"], bos=True).to_list()[0][0] == 0


def test_saved_tokenizers_come_back_the_same(tmp_path, bpe_json):
    tok = SubwordTokenizer(bpe_json, {"eos_token": "<|endoftext|>"})
    tok.save(tmp_path / "saved")
    back = load_tokenizer(tmp_path / "saved")
    assert back.fingerprint == tok.fingerprint
    assert back.eos_id == tok.eos_id
    assert back.encode(TEXTS).equals(tok.encode(TEXTS))


def test_a_special_can_be_named_that_is_none_by_itself(tmp_path, bpe_json):
    tok = SubwordTokenizer(bpe_json)
    assert tok.eos_id is None
    with pytest.raises(TokenizeError, match="names no eos_token"):
        tok.encode(["a"], eos=True)
    with pytest.raises(TokenizeError, match="not in the vocabulary"):
        SubwordTokenizer(bpe_json, {"eos_token": "<none>"})


def test_the_dtype_holds_added_tokens_too(bpe_json):
    content = json.loads(bpe_json)
    far = {"id": 70_000, "content": "<far>", "special": True}
    far |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content["added_tokens"].append(far)
    content["model"]["vocab"]["<far>"] = 70_000
    tok = SubwordTokenizer(json.dumps(content))
    assert tok.vocab_size == 70_001
    assert tok.encode(["a"]).values.dtype == np.uint32


def test_offsets_are_the_bytes_of_each_token(bpe_json):
    tok = SubwordTokenizer(bpe_json, {"eos_token": "<|endoftext|>"})
    text = "Document 5: \u00e9 word"
    ids, spans = tok.encode_with_offsets([text, ""], eos=True)
    raw = text.encode()
    assert ids.equals(tok.encode([text, ""], eos=True))
    assert spans[0][-1].tolist() == [len(raw)] * 2
    assert spans[1].tolist() == [[0, 0]]
    words = [raw[a:b] for a, b in spans[0][:-1]]
    assert words[-1].strip() == b"word"
    assert "\u00e9".encode() in b"".join(words)
    assert tok.encode_with_offsets([])[1].values.shape == (0, 2)


def test_a_panic_of_the_library_names_the_document(monkeypatch, bpe_json):
    class PanicException(BaseException):
        """Like that of the library: no Exception."""

    tok = SubwordTokenizer(bpe_json, fast=False)
    engine = tok._model._engine

    class Panicking:
        def encode_batch_fast(self, texts, add_special_tokens):
            if "poison" in texts:
                raise PanicException("called `Result::unwrap()` on an `Err` value")
            return engine.encode_batch_fast(texts, add_special_tokens=add_special_tokens)

    monkeypatch.setattr(tok._model, "_engine", Panicking())
    with pytest.raises(TokenizeError, match=r"document 2 .*PanicException") as caught:
        tok.encode(["a", "b", "poison", "c"])
    assert caught.value.document == 2


def test_a_real_panic_becomes_an_error(bpe_json):
    content = json.loads(bpe_json)
    content["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+b"},
        "behavior": "Isolated",
        "invert": False,
    }
    tok = SubwordTokenizer(json.dumps(content))
    with pytest.raises(TokenizeError, match="document 1") as caught:
        tok.encode(["fine", "a" * 400])
    assert caught.value.document == 1
    assert "Panic" in str(caught.value)


def test_control_c_is_not_swallowed(monkeypatch, bpe_json):
    tok = SubwordTokenizer(bpe_json, fast=False)

    class Interrupted:
        def encode_batch_fast(self, texts, add_special_tokens):
            raise KeyboardInterrupt

    monkeypatch.setattr(tok._model, "_engine", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tok.encode(["a"])


def test_dropout_is_switched_off(bpe_json):
    content = json.loads(bpe_json)
    content["model"]["dropout"] = 0.5
    tok = SubwordTokenizer(json.dumps(content))
    text = "Document word word word 5:" * 20
    assert tok.encode([text]).equals(tok.encode([text]))
    assert tok.fingerprint == SubwordTokenizer(bpe_json).fingerprint


def test_fingerprints_change_with_ids_and_only_with_them(bpe_json):
    stored = tokenizers.Tokenizer.from_str(bpe_json)
    stored.post_processor = tokenizers.processors.ByteLevel()
    assert SubwordTokenizer(stored.to_str()).fingerprint == SubwordTokenizer(bpe_json).fingerprint
    stored.normalizer = tokenizers.normalizers.Lowercase()
    assert SubwordTokenizer(stored.to_str()).fingerprint != SubwordTokenizer(bpe_json).fingerprint


def test_a_spelling_that_a_unigram_vocabulary_holds_as_a_piece_stays_text():
    pieces = [("</s>", 0.0), ("<unk>", 0.0), *((character, -2.0) for character in "ab</s>")]
    stored = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=1))
    stored.add_special_tokens(["</s>"])
    stored.encode_special_tokens = True
    assert stored.encode("a</s>b").ids == [2, 0, 3]  # the library: a piece, since it scores best
    tok = SubwordTokenizer(stored.to_str(), {"eos_token": "</s>"})
    assert tok.encode(["a", "a</s>b"], eos=True).to_list() == [[2, 0], [2, 4, 5, 6, 7, 3, 0]]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        "not json",
        '{"model": 5}',
        '{"added_tokens": "x"}',
        '{"added_tokens": [1]}',
        "[" * 100_000,
    ],
)
def test_files_that_are_no_tokenizer_are_refused_with_their_name(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizeError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_names_that_stand_for_nothing_are_refused(tmp_path):
    with pytest.raises(TokenizeError, match="no tokenizer 'gpt7'"):
        load_tokenizer("gpt7")
    with pytest.raises(TokenizeError, match="no tokenizer"):
        load_tokenizer(tmp_path)
    for content in ("[1, 2]", "5", "null", "{", '{"type": "bytes", "preset": ["byt5"]}'):
        (tmp_path / "tersely_tokenizer.json").write_text(content)
        with pytest.raises(TokenizeError):
            load_tokenizer(tmp_path)
    with pytest.raises(TokenizeError, match=r"tokenizer\.json"):
        SubwordTokenizer(b"\xff")
    (tmp_path / "tersely_tokenizer.json").write_text('{"type": "unheard"}')
    with pytest.raises(TokenizeError, match="unheard"):
        load_tokenizer(tmp_path)


def test_bytes_that_are_not_utf8_are_refused(bpe_json):
    with pytest.raises(TokenizeError, match="document 1 is not UTF-8 at byte 1") as caught:
        SubwordTokenizer(bpe_json).encode([b"ok", b"a\xff"])
    assert caught.value.document == 1


def test_ordinary_and_unknown_text_is_never_refused(bpe_json):
    for role in ({"eos_token": "w"}, {"pad_token": "!"}, {"bos_token": "\u010a"}):
        tok = SubwordTokenizer(bpe_json, role)
        assert tok.decode(tok.encode(["hi! w\n"])) == [b"hi! w\n"]
    pieces = [("<unk>", 0.0), ("a", -1.0)]
    stored = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0))
    stored.add_special_tokens(["<unk>"])
    assert SubwordTokenizer(stored.to_str(), {"pad_token": "<unk>"}).encode(["a\u2603"]).to_list() == [[1, 0]]


def test_added_tokens_spelled_like_bounds_stay_text_too(bpe_json):
    stored = tokenizers.Tokenizer.from_str(bpe_json)
    stored.add_tokens([tokenizers.AddedToken("</s>", rstrip=True, special=False)])
    tok = SubwordTokenizer(stored.to_str())
    assert tok.vocab_size - 1 == stored.token_to_id(
        "</s>"
    )  # not special by the file, and all the same never found
    ids = tok.encode(["<b>x</s>   y"])
    assert tok.decode(ids) == [b"<b>x</s>   y"]
    assert tok.vocab_size - 1 not in ids.to_list()[0]


def test_a_vocabulary_that_cannot_keep_a_spelling_refuses_the_document():
    words = {"a": 0, "[END]": 1, "[UNK]": 2}
    stored = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    stored.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    stored.add_special_tokens(["[END]"])
    tok = SubwordTokenizer(stored.to_str(), {"eos_token": "[END]"})
    with pytest.raises(TokenizeError, match="document 1 spells the special token of id 1") as caught:
        tok.encode(["a a", "a [END]"])
    assert caught.value.document == 1
