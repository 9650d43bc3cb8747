"""Words: nothing is lost, each rule equals its pattern or annex on any bytes, documents do not touch each other."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unicode_of_regex import needs_unicode_18

from tersely import Ragged
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import WordRule, segment, segment_pieces
from tersely.tokenize.words import reference

RULES = list(WordRule)

# Characters between which the rules decide something, and some that only look like them.
TELLING = [
    *"abestmdlvrESTLVR019 \t\n\r'\".,:;_-(\x00\x0b\x1c\x85\xa0",
    *"\u00e9\u00b2\u0130\u017f\u212a\u02bc\u0300\u0345\u05d0\u05d1\u05f4\u0e01\u1680\u2000\u2019\u2028\u202f\u205f",
    *"\u2060\u200d\u200b\u24c2\u3000\u30ab\u30fc\u3031\u4e2d\uac00\ufe0f\uff0e\uff11\uff3f\ufeff",
    *"\U0001f1e6\U0001f1e7\U0001f3fb\U0001f469\U0001d7d8\U00020000\U000e0001",
]
BROKEN = [
    b"\x80",
    b"\xbf",
    b"\xc3",
    b"\xc0\x80",
    b"\xe4\xb8",
    b"\xed\xa0\x80",
    b"\xe0\x80\x80",
    b"\xf0\x9f",
    b"\xff",
]
BROKEN += [b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80", b"\xc5", b"\xe3\x80", b"'\xc5"]
fragments = st.sampled_from([character.encode() for character in TELLING] + BROKEN)
# Of few kinds each, so that what takes several in a row happens.
few_kinds = st.lists(fragments, min_size=1, max_size=4)
tangled = few_kinds.flatmap(lambda few: st.lists(st.sampled_from(few), max_size=14)).map(b"".join)
long_tangled = few_kinds.flatmap(
    lambda few: st.lists(st.sampled_from([*few, b" "]), min_size=10, max_size=60)
).map(b"".join)
documents = st.lists(
    st.one_of(tangled, st.binary(max_size=20), st.text(max_size=12).map(str.encode)), max_size=5
)


def words_of(texts, rule):
    return [[word.tobytes() for word in row] for row in segment(texts, rule)]


def naughty(shared):
    return json.loads((shared / "fixtures/blns.json").read_text())


# -- against the twins ------------------------------------------------------------------------------------------


@needs_unicode_18
@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=400)
@given(documents)
@example([b"", b"", b"it's", b"'", b"s", b"", b" ", b"\xc5", b"\xbf", b""])
@example([b"a\xe3\x80\x80", b"\xe3\x80", b"\x80b", b"\xf0\x9f\x98", b"\x80"])
@example(["\u05d0\u05d1:\u200d\u24c2".encode()])
def test_words_are_those_of_the_twin(rule, texts):
    assert words_of(texts, rule) == [reference.words(text, rule) for text in texts]


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=200)
@given(texts=documents, most=st.integers(4, 9))
def test_long_words_are_cut_between_characters(rule, texts, most):
    cut = segment_pieces(texts, rule, max_word_bytes=most)
    for text, pieces, flags in zip(texts, cut.words, cut.continues, strict=True):
        mine = [(piece.tobytes(), bool(flag)) for piece, flag in zip(pieces, flags, strict=True)]
        assert mine == reference.pieces(reference.words(text, rule), most)
    whole = segment_pieces(texts, rule)
    assert whole.words.equals(segment(texts, rule))
    assert not whole.continues.values.any()


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=300)
@given(
    texts=st.lists(long_tangled, max_size=3),
    chunk=st.integers(4, 20),
)
def test_where_chunks_and_stretches_end_does_not_matter(rule, texts, chunk):
    whole = segment(texts, rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tersely.tokenize.words.segmentation.CHUNK_BYTES", chunk)
        assert segment(texts, rule).equals(whole)


@pytest.mark.parametrize("rule", RULES)
@given(documents)
def test_nothing_is_lost_and_no_word_is_empty(rule, texts):
    words = segment(texts, rule)
    assert [b"".join(word.tobytes() for word in row) for row in words] == texts
    assert (words.values.lengths > 0).all()


# -- against published things -----------------------------------------------------------------------------------


def test_gpt2_words_join_one_blank_and_keep_contractions():
    assert words_of(["It's  100% we'LL go\n\n on"], "gpt2") == [
        [b"It", b"'s", b" ", b" 100", b"%", b" we", b"'", b"LL", b" go", b"\n\n", b" on"]
    ]


def test_cl100k_words_count_digits_and_keep_newlines():
    assert words_of(["It'S 12345.\r\n\n  (x) \n\ty\n "], "cl100k") == [
        [b"It", b"'S", b" ", b"123", b"45", b".\r\n\n", b" ", b" (", b"x", b")", b" \n", b"\ty", b"\n "]
    ]


def test_cl100k_white_space_is_cut_after_its_last_newline_and_before_its_last_character():
    assert words_of(["a \n \n   b\n  \t1\n \n"], "cl100k") == [
        [b"a", b" \n \n", b"  ", b" b", b"\n", b"  ", b"\t", b"1", b"\n \n"]
    ]


def test_space_words_start_at_what_looks_like_space():
    assert words_of(["the  cat-(3) \u00e9\u00e9 a"], "space") == [
        [b"the", b"  cat", b"-(3", b") \xc3\xa9", b"\xc3\xa9", b" a"]
    ]


def test_the_patterns_are_those_that_tiktoken_publishes():
    source = pytest.importorskip("tiktoken_ext.openai_public")
    assert reference.PATTERNS[WordRule.CL100K] in Path(source.__file__).read_text()
    theirs = regex.compile(source.r50k_pat_str)  # GPT-2's, written in another way
    generator = np.random.default_rng(0)
    for _ in range(3000):
        text = "".join(generator.choice(TELLING, generator.integers(0, 12)))
        assert words_of([text], "gpt2") == [[word.encode() for word in theirs.findall(text)]]


# -- what breaks others -----------------------------------------------------------------------------------------


@needs_unicode_18
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "text",
    [
        b"a" * 100_000,
        b" " * 100_000,
        b"\n" * 100_000 + b"x",
        b" \n" * 50_000,
        b"'" * 100_000,
        b"'s" * 50_000,
        b"7" * 100_001,
        bytes(100_000),
        b"\xff" * 100_000,
        b"\x80" * 100_000,
        "\u3000".encode() * 50_000 + b"x",
        "\u4e2d".encode() * 50_000,
        b"a." * 50_000,
        b"\xf0\x9f" * 50_000,
        np.random.default_rng(1).integers(97, 123, 100_000).astype(np.uint8).tobytes(),
        np.random.default_rng(2).integers(0, 256, 100_000).astype(np.uint8).tobytes(),
    ],
    ids=lambda text: repr(text[:4]),
)
def test_long_monotonous_texts_are_segmented_right(rule, text):
    words = words_of([text], rule)[0]
    assert b"".join(words) == text
    if rule == WordRule.UNICODE:  # the twin is quadratic
        text = text[:400]
    assert words_of([text], rule) == [reference.words(text, rule)]


@pytest.mark.parametrize("rule", RULES)
def test_ignored_characters_without_end_take_linear_time(rule):
    text = ("a" + "\u0308" * 300_000 + "'" + "\u200d" * 300_000 + "b").encode()
    words = words_of([text], rule)[0]
    assert b"".join(words) == text
    assert len(words) == (1 if rule == "unicode" else len(reference.words(text, rule)))


@pytest.mark.shared_data
@pytest.mark.parametrize("rule", RULES)
def test_naughty_strings(shared, rule):
    texts = [text.encode("utf-8", "surrogatepass") for text in naughty(shared)]
    assert len(texts) > 400
    assert words_of(texts, rule) == [reference.words(text, rule) for text in texts]


def strings_in(value):
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_in(item)


@pytest.mark.shared_data
@pytest.mark.parametrize("folder", ["prose", "multilingual", "code", "prompts", "edits"])
def test_words_equal_the_regex_on_all_strings_of_the_shared_corpora(shared, folder):
    files, compared = sorted((shared / folder).glob("*.jsonl.zst")), 0
    for file in files:
        with pa.input_stream(file, compression="zstd") as stream:
            texts = list(strings_in([json.loads(line) for line in stream.read().splitlines()]))
        for rule in (WordRule.GPT2, WordRule.CL100K):
            pattern = regex.compile(reference.PATTERNS[rule])
            for text, words in zip(texts, segment(texts, rule), strict=True):
                theirs = [len(word.encode()) for word in pattern.findall(text)]
                assert words.lengths.tolist() == theirs, text[:80]
                compared += len(theirs)
    assert compared > 500_000


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("word", ["plain", "it's", "3.", "\u00e9\u3000", "\u4e2d", "a\u0308", "x\n", "  "])
def test_documents_longer_than_a_chunk_are_segmented_as_one(rule, word):
    text = f"{word} {word} and'\u05d0".encode()
    times = 500_000 // len(text)
    lengths = segment([text * times], rule).values.lengths
    middle = [len(found) for found in reference.words(text * 3, rule)]
    assert lengths.sum() == len(text) * times
    ends = set(np.cumsum(lengths).tolist())
    near = {
        end for end in np.cumsum(middle).tolist() if end < 2 * len(text)
    }  # where the end of the text is far
    for start in range(0, len(text) * (times - 2), len(text) * 2):
        inside = {end - start for end in range(start + len(text), start + 2 * len(text)) if end in ends}
        assert inside == {end for end in near if end >= len(text)}


# -- inputs -----------------------------------------------------------------------------------------------------


def test_a_ragged_of_bytes_is_not_copied():
    rows = Ragged.from_rows([b"one two", b"", b"three"])
    words = segment(rows)
    assert np.shares_memory(words.values.values, rows.values)
    assert words.offsets.tolist() == [0, 2, 2, 3]
    every_second = Ragged(np.frombuffer(b"a- -b-", np.uint8)[::2], [0, 3])
    assert words_of(every_second, "gpt2") == [[b"a", b" b"]]


def test_no_documents_have_no_words():
    for rule in RULES:
        assert segment([], rule).to_list() == []
        assert segment(["", b""], rule).to_list() == [[], []]
        assert segment_pieces([""], rule, max_word_bytes=4).continues.to_list() == [[]]


def test_wrong_input_is_refused_with_the_way_out():
    with pytest.raises(UsageError, match="no word rule 'gpt3': choose one of 'gpt2'"):
        segment(["a"], "gpt3")
    with pytest.raises(UsageError, match="allow 4 or more"):
        segment_pieces(["a"], max_word_bytes=3)
    with pytest.raises(TokenizeError, match="document 1 has a lone surrogate"):
        segment(["a", "\ud800"])
    with pytest.raises(TokenizeError, match="list of documents"):
        segment("a")
    with pytest.raises(TokenizeError, match="bytes"):
        segment(Ragged.from_rows([[1.5]]))
    with pytest.raises(TokenizeError, match="bytes"):
        segment(segment(["a"]))
