"""Rank files, SentencePiece models and every decoder, each against its own library."""

import base64
import json

import numpy as np
import pytest
import sentencepiece
import tiktoken
import tokenizers
from small import TEXTS
from vocabularies import NASTY, rank_file

from tersely import load_tokenizer
from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.subword.tiktoken_ranks import ENCODINGS, Encoding, TiktokenModel

SPLIT = r"\p{L}+|\p{N}+|[^\p{L}\p{N}]"
DECODERS = tokenizers.decoders


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


def test_a_vocabulary_of_some_words_only_loads():
    model = tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="[UNK]")
    stored = tokenizers.Tokenizer(model)
    stored.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tok = SubwordTokenizer(stored.to_str())
    assert tok.encode(["a b a"]).to_list() == [[0, 1, 0]]
    with pytest.raises(TokenizeError, match="document 1"):
        tok.encode(["a", "c"])
