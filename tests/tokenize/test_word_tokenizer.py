"""The word tokenizer: byte ids, and in rows of them the words that the text has."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely import Ragged, load_tokenizer
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import ByteTokenizer, Tokenizer, WordRule, WordTokenizer, segment, segment_pieces

PRESETS = sorted(ByteTokenizer.PRESETS)
texts = st.lists(st.text(max_size=15).map(str.encode) | st.binary(max_size=15), max_size=5)


def without_fe_and_ff(documents):
    return [text.replace(b"\xfe", b"").replace(b"\xff", b"") for text in documents]


@pytest.mark.parametrize("preset", PRESETS)
@given(documents=texts)
def test_ids_are_those_of_the_byte_tokenizer(preset, documents):
    words, plain = WordTokenizer("space", preset), ByteTokenizer(preset)
    assert isinstance(words, Tokenizer)
    assert words.encode(documents, eos=preset != "hnet").equals(plain.encode(documents, eos=preset != "hnet"))
    assert words.decode(words.encode(documents)) == documents
    for mine, theirs in zip(
        words.encode_with_offsets(documents, unit="character"),
        plain.encode_with_offsets(documents, unit="character"),
        strict=True,
    ):
        assert mine.equals(theirs)
    for name in ("vocab_size", "pad_id", "bos_id", "eos_id"):
        assert getattr(words, name) == getattr(plain, name)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("rule", list(WordRule))
@given(documents=texts)
def test_words_of_ids_are_the_words_of_the_text(preset, rule, documents):
    tok = WordTokenizer(rule, preset)
    if preset == "hnet":
        documents = without_fe_and_ff(documents)
    ids = tok.encode(documents)
    words = tok.words(ids)
    of_text = segment(documents, rule)
    assert np.array_equal(words.offsets, of_text.offsets)
    assert np.array_equal(words.values.offsets, of_text.values.offsets)
    assert words.values.values is ids.values or np.shares_memory(words.values.values, ids.values)


@pytest.mark.parametrize("preset", PRESETS)
@given(documents=texts)
def test_specials_are_words_of_their_own_and_part_the_text(preset, documents):
    """One packed row of all documents, each closed by the end id, has the words of each and the end ids."""
    tok = WordTokenizer("gpt2", preset)
    if preset == "hnet":
        documents = without_fe_and_ff(documents)
    ids = tok.encode(documents, eos=True)
    row = Ragged(ids.values, [0, len(ids.values)])
    expected = []
    for words in tok.words(tok.encode(documents)).to_list():
        expected += [*words, [tok.eos_id]]
    assert tok.words(row).to_list() == [expected]


def test_padding_and_sentinels_are_words_of_their_own():
    tok = WordTokenizer()
    shift = 3
    row = [ord("a") + shift, ord("b") + shift, 259, ord(" ") + shift, ord("b") + shift, 1, 0, 0]
    assert tok.words(Ragged.from_rows([row, [0], []])).to_list() == [
        [row[:2], [259], row[3:5], [1], [0], [0]],
        [[0]],
        [],
    ]


def test_words_of_tensors():
    tok = WordTokenizer()
    ids = tok.encode(["it's a tensor", ""])
    assert tok.words(ids.to_torch()).equals(tok.words(ids))


@given(documents=texts)
def test_pieces_of_ids_are_the_pieces_of_the_text(documents):
    tok = WordTokenizer("gpt2", "blt", max_word_bytes=5)
    mine, theirs = tok.pieces(tok.encode(documents)), segment_pieces(documents, max_word_bytes=5)
    assert np.array_equal(mine.words.values.offsets, theirs.words.values.offsets)
    assert mine.words.offsets.tolist() == theirs.words.offsets.tolist()
    assert mine.continues.equals(theirs.continues)


def test_pieces_do_not_reach_over_specials():
    tok = WordTokenizer("gpt2", max_word_bytes=4)
    ids = tok.encode([b"abc\xc3", b"\xa9abcd"], eos=True)
    row = Ragged(ids.values, [0, len(ids.values)])
    assert tok.pieces(row).words[0].lengths.tolist() == [3, 1, 1, 1, 4, 1]
    long = tok.encode(["abcdef"], eos=True)
    assert tok.pieces(long).continues.to_list() == [[False, True, False]]


def test_ids_that_are_none_are_refused():
    with pytest.raises(TokenizeError, match="outside 0 to 383"):
        WordTokenizer().words(Ragged.from_rows([[384]]))
    with pytest.raises(TokenizeError, match="integers"):
        WordTokenizer().words(Ragged.from_rows([[0.5]]))
    with pytest.raises(UsageError, match="choose one of 'gpt2', 'cl100k', 'space', 'unicode'"):
        WordTokenizer("words")
    with pytest.raises(TokenizeError, match="no byte preset"):
        WordTokenizer("gpt2", "byt6")
    with pytest.raises(UsageError, match="4 or more"):
        WordTokenizer(max_word_bytes=2)


@pytest.mark.parametrize(("rule", "preset", "most"), [("gpt2", "byt5", None), ("unicode", "hnet", 16)])
def test_saved_word_tokenizers_come_back_the_same(tmp_path, rule, preset, most):
    tok = WordTokenizer(rule, preset, most)
    tok.save(tmp_path / "tok")
    back = load_tokenizer(tmp_path / "tok")
    assert isinstance(back, WordTokenizer)
    assert (back.rule, back.preset, back.max_word_bytes) == (rule, preset, most)
    assert back.fingerprint == tok.fingerprint
    assert repr(back) == repr(tok)


def test_every_configuration_has_a_fingerprint_of_its_own():
    every = [
        WordTokenizer(rule, preset, most) for rule in WordRule for preset in PRESETS for most in (None, 4)
    ]
    prints = {tok.fingerprint for tok in every} | {ByteTokenizer(preset).fingerprint for preset in PRESETS}
    assert len(prints) == len(every) + len(PRESETS)


def test_word_tokenizers_load_by_name():
    assert repr(load_tokenizer("words")) == repr(WordTokenizer("gpt2"))
    assert repr(load_tokenizer("words:space")) == repr(WordTokenizer("space"))
    with pytest.raises(UsageError, match="choose one of"):
        load_tokenizer("words:spaces")


def test_a_prepared_folder_gives_its_words(tmp_path, write_jsonl):
    from click.testing import CliRunner

    from tersely.cli.main import cli
    from tersely.shards import ShardFolder, verify

    documents = ["It's one.", "na\u00efve  \u4e2d\u6587 1,000", "", "x\n\ny " * 30]
    source = write_jsonl([{"text": text} for text in documents])
    out = tmp_path / "out"
    flags = ["--tokenizer", "words:gpt2", "--pack", "64", "--out", str(out), "--json"]
    done = CliRunner().invoke(cli, ["prepare", str(source), *flags])
    assert done.exit_code == 0, done.output
    assert json.loads((out / "tokenizer" / "tersely_tokenizer.json").read_text())["type"] == "words"
    assert not [fault for _, fault in verify(out) if fault]

    tok, folder = load_tokenizer(out), ShardFolder(out)
    assert isinstance(tok, WordTokenizer)
    expected = [text for text in documents if text]
    rows = [
        folder.tokens(document, 0, int(length)) for document, length in enumerate(folder.document_lengths)
    ]
    ids = Ragged.from_rows(rows)
    assert ids.equals(ByteTokenizer().encode(expected, eos=True))
    words = [[bytes(id - 3 for id in word) for word in row[:-1]] for row in tok.words(ids).to_list()]
    assert words == [[word.tobytes() for word in row] for row in segment(expected)]
