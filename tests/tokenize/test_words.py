"""Words: nothing is lost, each rule equals its pattern or annex on any bytes, documents do not touch each other."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tersely import Ragged
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import WordRule, segment, segment_pieces
from tersely.tokenize.words import reference
from tersely.tokenize.words.tables import class_table, kinds

RULES = list(WordRule)

# Characters between which the rules decide something, and some that only look like them.
TELLING = [
    *"abestmdlvrESTLVR019 \t\n\r'\".,:;_-(\x00\x0b\x1c\x85\xa0",
    *"\u00e9\u00b2\u0130\u017f\u212a\u02bc\u0300\u0345\u05d0\u05d1\u05f4\u0e01\u1680\u2000\u2019\u2028",
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
tangled = st.lists(fragments, max_size=14).map(b"".join)
documents = st.lists(
    st.one_of(tangled, st.binary(max_size=20), st.text(max_size=12).map(str.encode)), max_size=5
)


def words_of(texts, rule):
    return [[word.tobytes() for word in row] for row in segment(texts, rule)]


def naughty(shared):
    return json.loads((shared / "fixtures/blns.json").read_text())


# -- against the twins ------------------------------------------------------------------------------------------


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
    texts=st.lists(st.lists(fragments | st.just(b" "), max_size=80).map(b"".join), max_size=3),
    chunk=st.integers(4, 40),
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


# Written for this test: the words of a line stand between bars. The comment names what decides.
UNICODE_WORDS = """
can't|.| |you                     WB6, WB7
can|'| |t                         WB6 needs the letter at once
a.b|.                             WB6, and not at the end
a|.|.|b                           two of them are not inside a word
a:b                               a colon is, too
3.14|,| |1,000|;                  WB11, WB12
3|.|a                             what is inside numbers is not inside mixtures
a3b4                              WB9, WB10
3'4|'                             WB12 with an apostrophe
a_b_|-|_c3                        WB13a, WB13b
\\u30ab\\u30ab_\\u30ab            WB13
\\u30ab|a|\\u30ab                 katakana and letters are apart
\\u05d0'                          WB7a
\\u05d0'\\u05d1                   WB6, WB7
\\u05d0"\\u05d1                   WB7b, WB7c
\\u05d0|"|a                       a quotation mark asks for Hebrew
a|"|\\u05d0                       on both sides
\\r\\n|\\n|\\r|\\u0308            WB3, WB3a: nothing joins a newline
\\n|\\u0308|a                     a mark after a newline stands alone
a\\u0308b                         WB4
a\\u0308\\u2060:\\u0308b          WB4 in the midst of WB6
\\u200d\\u0308|a                  ignored characters at the start are a word
1\\u0308.\\u200d2                 WB4 in the midst of WB12
\\U0001f469\\u200d\\U0001f469     WB3c
\\U0001f469\\u0308\\u200d\\U0001f469  WB3c after WB4
\\U0001f469|\\U0001f469           and without the joiner
a\\u200d\\u24c2                   WB3c; the second is a letter, too
\\u05d0:\\u200d\\u24c2            WB6 looks past the joiner of WB3c
\\u0020\\u0020|a|\\u0020          WB3d
\\u0020\\u0308|\\u0020            WB3d needs them side by side
\\U0001f1e6\\U0001f1e7|\\U0001f1e6  WB15: flags are pairs
a|\\U0001f1e6\\U0001f1e7|\\U0001f1e6\\U0001f1e7  WB16
\\U0001f1e6\\u200d\\U0001f1e7|\\U0001f1e6  WB4 in the midst of a pair
\\u4e2d|\\u6587                   ideographs are one each
\\u0e01|\\u0e01                   Thai has no default boundaries but between all
\\t|\\t                           WB999
""".strip().splitlines()


@pytest.mark.parametrize("line", UNICODE_WORDS, ids=str.strip)
def test_unicode_words_follow_the_annex(line):
    expected = line.split("  ")[0].encode().decode("unicode_escape").split("|")
    assert words_of(["".join(expected)], "unicode") == [[word.encode() for word in expected]]


@pytest.mark.shared_data
def test_every_line_of_the_conformance_test_passes(shared):
    lines = (shared / "fixtures/unicode/WordBreakTest.txt").read_text().splitlines()
    vectors = [line.split("#")[0].strip("\u00f7\t ") for line in lines if line.startswith("\u00f7")]
    expected = [
        ["".join(chr(int(point, 16)) for point in word.split("\u00d7")) for word in vector.split("\u00f7")]
        for vector in vectors
    ]
    got = words_of(["".join(words) for words in expected], "unicode")
    assert got == [[word.encode() for word in words] for words in expected]
    assert len(got) > 1800


def test_the_unicode_table_is_that_of_the_regex_package():
    names, codes, version = kinds()
    assert version == "18.0"
    # A later version may assign what this one does not.
    unassigned = np.array([name.startswith("Cn") for name in names])[codes]
    every = "".join(map(chr, range(0x110000)))
    properties = {
        r"\p{L}": lambda name: name[0] == "L",
        r"\p{N}": lambda name: name[0] == "N",
        r"\s": lambda name: "space" in name,
    }
    for value in {name.split("|")[1] for name in names}:
        properties[rf"\p{{Word_Break={value}}}"] = lambda name, value=value: name.split("|")[1] == value
    for pattern, has in properties.items():
        theirs = np.zeros(0x110000, bool)
        for run in regex.finditer(f"(?:{pattern})+", every):
            theirs[run.start() : run.end()] = True
        mine = np.array([has(name) for name in names])[codes]
        assert not ((mine != theirs) & ~unassigned).any(), pattern
    pictographic = "".join(np.array(list(every))[np.array(["pictographic" in name for name in names])[codes]])
    assert set(regex.findall(r"\p{Extended_Pictographic}", every)) < set(pictographic)
    assert "\u2701" in pictographic  # in the vectors of Unicode 14
    assert len(pictographic) == 3537  # that version's number


def test_a_class_table_gives_each_character_its_class():
    table = class_table(lambda kind: int(kind.startswith("Lu")), {"\u00e9": 7})
    for character in "aA\u00e9\u00c9\u4e2d\U0001d400\U0010ffff":
        point = ord(character)
        expected = 7 if character == "\u00e9" else int(character.isupper())
        assert table.classes[table.pages[point // 64], point % 64] == expected
    assert table.ascii.tolist() == [int(chr(point).isupper()) for point in range(128)]


# -- what breaks others -----------------------------------------------------------------------------------------


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
    with pytest.raises(UsageError, match="no wordrule 'gpt3': choose one of 'gpt2'"):
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
