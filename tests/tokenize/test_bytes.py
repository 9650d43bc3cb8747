"""Byte tokenizers: published layouts, any bytes, and text that only looks special."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely import Ragged, load_tokenizer
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import ByteTokenizer, Tokenizer, id_dtype

PRESETS = sorted(ByteTokenizer.PRESETS)
SPECIALS = [
    dict(bos=False, eos=False),
    dict(bos=False, eos=True),
    dict(bos=True, eos=True),
    dict(bos=True, eos=False),
]


def with_specials():
    for preset in PRESETS:
        for flags in SPECIALS:
            if not flags["bos"] or ByteTokenizer(preset).bos_id is not None:
                yield pytest.param(preset, flags, id=f"{preset}-{flags['bos']}-{flags['eos']}")


@pytest.mark.parametrize(("preset", "flags"), with_specials())
@given(texts=st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_round_trip(preset, flags, texts):
    tok = ByteTokenizer(preset)
    ids = tok.encode(texts, **flags)
    assert tok.decode(ids, **flags) == texts
    assert ids.lengths.tolist() == [len(text) + flags["bos"] + flags["eos"] for text in texts]


@pytest.mark.parametrize(("preset", "flags"), with_specials())
@given(texts=st.lists(st.text(max_size=20), max_size=5))
def test_ids_are_the_bytes_plus_the_shift(preset, flags, texts):
    tok = ByteTokenizer(preset)
    shift = {"byt5": 3, "blt": 4, "hnet": 0, "evabyte": 64}[preset]
    lead, trail = [tok.bos_id] * flags["bos"], [tok.eos_id] * flags["eos"]
    expected = [lead + [byte + shift for byte in text.encode()] + trail for text in texts]
    assert tok.encode(texts, **flags).to_list() == expected


@pytest.mark.parametrize(
    ("preset", "pad", "bos", "eos", "vocab_size", "dtype"),
    [
        ("byt5", 0, None, 1, 384, np.uint16),
        ("blt", None, 1, 2, 260, np.uint16),
        ("hnet", None, 254, 255, 256, np.uint8),
        ("evabyte", 0, 1, 2, 320, np.uint16),
    ],
)
def test_layouts_are_the_published_ones(preset, pad, bos, eos, vocab_size, dtype):
    tok = ByteTokenizer(preset)
    assert (tok.pad_id, tok.bos_id, tok.eos_id, tok.vocab_size) == (pad, bos, eos, vocab_size)
    assert tok.encode(["\u00ff"]).values.dtype == dtype
    assert isinstance(tok, Tokenizer)


def test_sentinels_in_both_conventions():
    published = ByteTokenizer("byt5", sentinels="checkpoint")
    assert [published.sentinel_id(i) for i in (0, 1, 124)] == [258, 257, 134]
    transformers = ByteTokenizer("byt5", sentinels="transformers")
    assert [transformers.sentinel_id(i) for i in (0, 1, 124)] == [259, 260, 383]
    with pytest.raises(TokenizeError, match="125"):
        transformers.sentinel_id(125)
    with pytest.raises(TokenizeError, match="hnet"):
        ByteTokenizer("hnet").sentinel_id(0)


def test_text_that_looks_special_stays_text_and_transformers_eats_it():
    from transformers import ByT5Tokenizer

    text = "a </s> b<extra_id_0>"
    mine = ByteTokenizer().encode([text])
    assert mine.to_list() == [[byte + 3 for byte in text.encode()]]
    assert ByteTokenizer().decode(mine) == [text.encode()]
    theirs = ByT5Tokenizer()(text, add_special_tokens=False).input_ids
    assert theirs == [ord("a") + 3, 1, ord("b") + 3, 259]  # an end token, the blanks gone, a sentinel


def test_ids_equal_transformers_on_text_without_special_spellings():
    from transformers import ByT5Tokenizer

    texts = ["plain", "\u00e9\u4e2d\U0001f600 mixed\n\ttext", "x" * 1000, "\x00\x7f"]
    assert ByteTokenizer().encode(texts, eos=True).to_list() == ByT5Tokenizer()(texts).input_ids


@pytest.mark.shared_data
@pytest.mark.parametrize("folder", ["prose", "multilingual"])
def test_ids_equal_transformers_on_the_shared_corpora(shared, folder):
    from transformers import ByT5Tokenizer

    from tersely.corpus import find_sources

    peer, tok, compared = ByT5Tokenizer(), ByteTokenizer(), 0
    spellings = tuple(peer.all_special_tokens)
    for source in find_sources([shared / folder])[0]:
        for batch in source.batches():
            texts = [text[:20_000] for text in batch.texts if not any(word in text for word in spellings)]
            ids = tok.encode(texts, eos=True)
            for text, row in zip(texts, ids, strict=True):
                assert row.tolist() == peer(text).input_ids
                compared += 1
    assert compared > 1000


@given(st.lists(st.text(max_size=12), max_size=4))
def test_offsets_point_back_at_the_source(texts):
    tok = ByteTokenizer("blt")
    ids, spans = tok.encode_with_offsets(texts, bos=True, eos=True)
    assert ids.equals(tok.encode(texts, bos=True, eos=True))
    for text, row, span in zip(texts, ids, spans, strict=True):
        raw = text.encode()
        assert span.tolist() == [[0, 0], *([i, i + 1] for i in range(len(raw))), [len(raw)] * 2]
        assert b"".join(raw[a:b] for a, b in span) == raw
        assert len(row) == len(span)
    _, characters = tok.encode_with_offsets(texts, unit="character")
    for text, span in zip(texts, characters, strict=True):
        assert [text[a:b] for a, b in span] == [char for char in text for _ in char.encode()]


@given(st.binary(max_size=30))
def test_character_offsets_of_broken_utf8_follow_surrogateescape(raw):
    text = raw.decode("utf-8", "surrogateescape")
    _, spans = ByteTokenizer().encode_with_offsets([raw], unit="character")
    widths = [len(char.encode("utf-8", "surrogateescape")) for char in text]
    expected = [[i, i + 1] for i, width in enumerate(widths) for _ in range(width)]
    assert spans.to_list() == [expected]


def test_documents_may_come_from_arrow():
    texts = ["one", "", "tw\u00f6"]
    column = Ragged.from_arrow(pa.array(texts))
    for flags in SPECIALS[:2]:
        assert ByteTokenizer().encode(column, **flags).equals(ByteTokenizer().encode(texts, **flags))


def test_no_documents_and_empty_documents():
    tok = ByteTokenizer()
    assert tok.encode([]).to_list() == []
    assert tok.encode([], eos=True).values.dtype == np.uint16
    assert tok.encode(["", b""], eos=True).to_list() == [[1], [1]]
    assert tok.decode(tok.encode([""])) == [b""]
    assert tok.encode_with_offsets([])[1].values.shape == (0, 2)


def test_wrong_input_is_refused_with_the_document():
    with pytest.raises(TokenizeError, match="document 1 has a lone surrogate at character 2") as caught:
        ByteTokenizer().encode(["fine", "ab\ud800"])
    assert caught.value.document == 1
    with pytest.raises(TokenizeError, match="document 0 is of type int"):
        ByteTokenizer().encode([5])
    with pytest.raises(TokenizeError, match="list of documents"):
        ByteTokenizer().encode("one string")
    with pytest.raises(TokenizeError, match="no bos id"):
        ByteTokenizer("byt5").encode(["a"], bos=True)
    with pytest.raises(TokenizeError, match="no byte preset"):
        ByteTokenizer("byt6")
    with pytest.raises(TokenizeError, match="no byte preset"):
        ByteTokenizer(["byt5"])
    with pytest.raises(UsageError, match="unit"):
        ByteTokenizer().encode_with_offsets(["a"], unit="bytes")
    with pytest.raises(TokenizeError, match="integers"):
        ByteTokenizer().decode(Ragged.from_rows([[70.5]]))
    with pytest.raises(UsageError, match="sentinels"):
        ByteTokenizer("byt5", sentinels="mine")
    with pytest.raises(TokenizeError, match="outside"):
        ByteTokenizer().decode(Ragged.from_rows([[5000]]))


def test_special_ids_are_left_out_when_decoding():
    assert ByteTokenizer().decode(Ragged.from_rows([[0, 100, 2, 1, 300, 101]])) == [b"ab"]


@pytest.mark.parametrize("preset", PRESETS)
def test_saved_tokenizers_come_back_the_same(tmp_path, preset):
    tok = ByteTokenizer(preset, sentinels="checkpoint")
    tok.save(tmp_path / "tok")
    back = load_tokenizer(tmp_path / "tok")
    assert isinstance(back, ByteTokenizer)
    assert (back.preset, back.fingerprint) == (preset, tok.fingerprint)
    assert preset != "byt5" or back.sentinels == tok.sentinels


def test_fingerprints_tell_tokenizers_apart():
    every = [ByteTokenizer(preset) for preset in PRESETS] + [ByteTokenizer("byt5", "checkpoint")]
    assert len({tok.fingerprint for tok in every}) == len(every)
    assert ByteTokenizer("blt", "checkpoint").fingerprint == ByteTokenizer("blt").fingerprint


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [
        (1, "uint8"),
        (256, "uint8"),
        (257, "uint16"),
        (65_536, "uint16"),
        (65_537, "uint32"),
        (2**32, "uint32"),
    ],
)
def test_the_smallest_dtype_that_holds_the_vocabulary(vocab_size, dtype):
    assert id_dtype(vocab_size) == np.dtype(dtype)


def test_a_vocabulary_above_32_bits_is_refused():
    with pytest.raises(TokenizeError, match="32 bits"):
        id_dtype(2**32 + 1)
