"""Streaming decode: pieces that add up to the whole, and no half characters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import tiny_bpe

from tersely.ragged import Ragged
from tersely.tokenize import ByteTokenizer, StreamDecoder, SubwordTokenizer

BPE = SubwordTokenizer(tiny_bpe().to_str(), {"eos_token": "<|endoftext|>"})


def pieces_of(tok, ids, step):
    decoder = StreamDecoder(tok)
    pieces = [decoder.push(ids[at : at + step]) for at in range(0, len(ids), step)]
    return [*pieces, decoder.finish()]


@pytest.mark.parametrize("tok", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
@pytest.mark.parametrize("step", [1, 3])
def test_pieces_add_up_to_the_text_and_hold_whole_characters(tok, step):
    text = "na\u00efve \U0001f600 \u4e2d\u6587 word word"
    ids = tok.encode([text]).values.tolist()
    pieces = pieces_of(tok, ids, step)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)
    assert len([piece for piece in pieces if piece]) > 3


@given(st.binary(max_size=40), st.integers(1, 5))
def test_any_bytes_stream_as_python_decodes_them(raw, step):
    tok = ByteTokenizer()
    ids = tok.encode([raw]).values.tolist()
    assert "".join(pieces_of(tok, ids, step)) == raw.decode("utf-8", "replace")


def test_an_unfinished_character_ends_as_a_replacement_and_the_decoder_starts_anew():
    tok = ByteTokenizer()
    decoder = StreamDecoder(tok)
    assert decoder.push(tok.encode(["\u4e2d"]).values[:2].tolist()) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.push(tok.encode(["a"]).values.tolist()) == "a"


def test_a_first_space_is_taken_only_once_and_specials_are_left_out():
    import tokenizers

    stored = tokenizers.Tokenizer(
        tokenizers.models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("\u2581a", -1.0), ("b", -1.0)], unk_id=0)
    )
    stored.decoder = tokenizers.decoders.Metaspace()
    stored.add_special_tokens(["<unk>", "</s>"])
    tok = SubwordTokenizer(stored.to_str())
    ids = [2, 1, 1, 1, 1, 1, 2, 3, 2]
    whole = tok.decode(Ragged(np.array(ids), [0, len(ids)]))[0].decode()
    assert whole == "a ab a"
    assert "".join(pieces_of(tok, ids, 1)) == whole


def test_a_first_id_that_is_only_the_space_is_remembered():
    import tokenizers

    pieces = ["<unk>", "</s>", "\u2581", "\u2581a", "b"]
    stored = tokenizers.Tokenizer(tokenizers.models.BPE({p: i for i, p in enumerate(pieces)}, []))
    d = tokenizers.decoders
    stored.decoder = d.Sequence([d.Replace("\u2581", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    stored.add_special_tokens(["<unk>", "</s>"])
    tok = SubwordTokenizer(stored.to_str(), fast=False)
    for ids in ([2, 3], [2, 2, 4], [2, 1, 3], [1, 2, 4, 2], [3, 2, 2, 2, 2, 2, 3]):
        whole = tok.decode(Ragged(np.array(ids), [0, len(ids)]))[0].decode()
        assert "".join(pieces_of(tok, ids, 1)) == whole == stored.decode(ids)


def test_one_id_of_any_kind_may_be_pushed():
    import torch

    tok = ByteTokenizer()
    decoder = StreamDecoder(tok)
    pushed = [
        decoder.push(number) for number in (100, np.int64(101), torch.tensor(102), np.array([103, 104]), [])
    ]
    assert pushed == ["a", "b", "c", "de", ""]


def test_half_characters_wait_also_where_the_library_decodes():
    import tokenizers

    pieces = ["a", *(f"<0x{byte:02X}>" for byte in range(256))]
    stored = tokenizers.Tokenizer(tokenizers.models.BPE({p: i for i, p in enumerate(pieces)}, []))
    stored.decoder = tokenizers.decoders.ByteFallback()
    tok = SubwordTokenizer(stored.to_str(), fast=False)
    ids = [0, *(1 + byte for byte in "\U0001f600".encode()), 0, 1 + 0xFF, 0, 1 + 0xE4]
    whole = tok.decode(Ragged(np.array(ids), [0, len(ids)]))[0].decode()
    assert whole == "a\U0001f600a\ufffda\ufffd"
    pieces = pieces_of(tok, ids, 1)
    assert "".join(pieces) == whole
    assert pieces[1:4] == ["", "", ""]
