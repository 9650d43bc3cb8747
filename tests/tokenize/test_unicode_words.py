"""Unicode's word boundaries and the tables under them: vectors of our own, the published ones, the regex package."""

import numpy as np
import pytest
import regex
from unicode_of_regex import needs_unicode_18

from tersely.tokenize import segment
from tersely.tokenize.words import reference
from tersely.tokenize.words.tables import class_table, kinds


def words_of(text):
    return [word.tobytes().decode() for word in segment([text], "unicode")[0]]


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
    assert words_of("".join(expected)) == expected
    assert reference.words("".join(expected).encode(), "unicode") == [word.encode() for word in expected]


@pytest.mark.shared_data
def test_every_line_of_the_conformance_test_passes(shared):
    lines = (shared / "fixtures/unicode/WordBreakTest.txt").read_text().splitlines()
    vectors = [line.split("#")[0].strip("\u00f7\t ") for line in lines if line.startswith("\u00f7")]
    expected = [
        ["".join(chr(int(point, 16)) for point in word.split("\u00d7")) for word in vector.split("\u00f7")]
        for vector in vectors
    ]
    assert [words_of("".join(words)) for words in expected] == expected
    assert len(expected) > 1800


@needs_unicode_18
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
