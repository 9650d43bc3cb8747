"""RWKV's greedy longest match: against a plain twin, any bytes, and vocabulary files with faults."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely import Ragged, load_tokenizer
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import RwkvTokenizer, Tokenizer
from tersely.tokenize.rwkv import is_rwkv, parse_line
from tersely.tokenize.trie import build_trie, longest_match

WORDS = [b"the", b"there", b"re", b" the", b"\xe4\xb8\xad", b"\xb8\xad\xe6", b"\x00\x00", b"aaaa", b"a" * 90]
SMALL = {i + 1: token for i, token in enumerate([bytes([byte]) for byte in range(256)] + WORDS)}
SEGMENTS = st.lists(st.sampled_from([*WORDS, b"th", b"a", b"\xe4", b"\xff", b" "]) | st.binary(max_size=3))


def greedy(tokens, text):
    """The slow twin: at each place the longest token, tried from the longest down."""
    ids = {token: i for i, token in tokens.items()}
    longest, place, found = max(map(len, ids)), 0, []
    while place < len(text):
        size = next(n for n in range(longest, 0, -1) if text[place : place + n] in ids)
        found.append(ids[text[place : place + size]])
        place += size
    return found


@pytest.fixture(scope="module")
def small():
    return RwkvTokenizer(SMALL)


@given(segments=SEGMENTS)
def test_ids_are_those_of_the_slow_twin_and_any_bytes_round_trip(small, segments):
    text = b"".join(segments)
    ids = small.encode([text, b"", text], eos=True)
    expected = greedy(SMALL, text)
    assert ids.to_list() == [[*expected, 0], [0], [*expected, 0]]
    assert small.decode(ids) == [text, b"", text]


@given(words=st.sets(st.binary(min_size=1, max_size=4), min_size=1, max_size=60), text=st.binary(max_size=20))
def test_the_trie_holds_its_words_and_no_others(words, text):
    words = sorted(words)
    trie = build_trie(words, range(len(words)))
    for start in range(len(text) + 1):
        matching = [word for word in words if text.startswith(word, start)]
        best = max(matching, key=len, default=b"")
        expected = (words.index(best), start + len(best)) if matching else (-1, start)
        assert longest_match(trie, text, start) == expected
    assert [longest_match(trie, word, 0)[0] for word in words] == list(range(len(words)))


def test_a_trie_of_all_pairs_of_bytes_is_laid_out_without_waste():
    words = [bytes(pair) for pair in itertools.product(range(256), repeat=2)]
    trie = build_trie(words, range(len(words)))
    assert [longest_match(trie, word, 0) for word in words[::97]] == [
        (i, 2) for i in range(0, len(words), 97)
    ]
    assert len(trie.cells) < 1.1 * len(trie.nodes)


@pytest.mark.shared_data
def test_ids_are_those_of_the_slow_twin_on_the_shared_corpora(shared):
    from tersely.corpus import find_sources

    tok = load_tokenizer(shared / "tokenizers" / "rwkv_vocab_v20230424.txt")
    assert isinstance(tok, RwkvTokenizer)
    assert (tok.vocab_size, tok.eos_id) == (65530, 0)
    tokens = {i: tok.decode(Ragged.from_rows([[i]]))[0] for i in range(1, 65530)}
    compared = 0
    for folder in ("prose", "multilingual", "code", "prompts"):
        for source in find_sources([shared / folder])[0]:
            for batch in itertools.islice(source.batches(), 1):
                texts = [text[:2000] for text in batch.texts[:: max(1, len(batch.texts) // 5)]]
                ids = tok.encode(texts)
                assert ids.to_list() == [greedy(tokens, text.encode()) for text in texts]
                assert tok.decode(ids) == [text.encode() for text in texts]
                compared += len(texts)
    assert compared > 80


@given(segments=SEGMENTS)
def test_offsets_are_the_bytes_of_each_token(small, segments):
    text = b"".join(segments)
    ids, spans = small.encode_with_offsets([b"x", text], bos=True, eos=True)
    assert ids.equals(small.encode([b"x", text], bos=True, eos=True))
    assert spans[1].tolist()[0] == [0, 0]
    assert spans[1].tolist()[-1] == [len(text)] * 2
    tokens = [text[a:b] for a, b in spans[1][1:-1]]
    assert tokens == [SMALL[i] for i in ids[1].tolist()[1:-1]]
    assert b"".join(tokens) == text


@given(raw=st.text(max_size=30).map(str.encode) | SEGMENTS.map(b"".join))
def test_character_offsets_take_every_character_that_a_token_touches(small, raw):
    text = raw.decode("utf-8", "surrogateescape")
    starts = np.cumsum([0] + [len(char.encode("utf-8", "surrogateescape")) for char in text])
    _, spans = small.encode_with_offsets([raw], eos=True)
    _, characters = small.encode_with_offsets([raw], eos=True, unit="character")
    for (a, b), (first, last) in zip(spans[0][:-1].tolist(), characters[0][:-1].tolist(), strict=True):
        touched = [i for i in range(len(text)) if starts[i] < b and starts[i + 1] > a]
        assert (first, last) == (touched[0], touched[-1] + 1)
    assert characters[0][-1].tolist() == [len(text)] * 2


def test_a_byte_that_no_token_covers_is_refused_by_name():
    tok = RwkvTokenizer({1: b"a", 2: b"ab", 3: b"bcd"})
    assert tok.encode(["abab"]).to_list() == [[2, 2]]
    for threads in (1, 3):
        parted = RwkvTokenizer({1: b"a", 2: b"ab", 3: b"bcd"}, threads)
        with pytest.raises(TokenizeError, match=r"document 2 at byte 2: .* 0x63") as caught:
            parted.encode(["a" * 50, "", "abcd", "a"])
        assert caught.value.document == 2


def test_ids_do_not_depend_on_the_count_of_threads(small):
    texts = [b"the there" * n for n in range(40)] + [b""] * 5
    expected = small.encode(texts, bos=True)
    for threads in (2, 3, 64):
        assert RwkvTokenizer(SMALL, threads).encode(texts, bos=True).equals(expected)
    with pytest.raises(UsageError, match="threads is 0"):
        RwkvTokenizer(SMALL, 0)


def test_no_documents_and_documents_of_every_kind(small):
    assert isinstance(small, Tokenizer)
    assert small.encode([]).to_list() == []
    assert small.encode_with_offsets([], unit="character")[1].values.shape == (0, 2)
    assert small.encode([]).values.dtype == np.uint16
    rows = Ragged.from_rows([b"the", b"", b"re"])
    assert small.encode(rows).equals(small.encode(["the", "", "re"]))
    assert small.encode(rows[1:]).equals(small.encode(["", "re"]))
    with pytest.raises(TokenizeError, match="document 1 has a lone surrogate"):
        small.encode(["a", "\ud800"])
    with pytest.raises(UsageError, match="unit"):
        small.encode_with_offsets(["a"], unit="word")


def test_ids_that_stand_for_nothing_are_refused():
    tok = RwkvTokenizer({1: b"a", 5: b"b"})
    assert tok.vocab_size == 6
    assert tok.decode(Ragged.from_rows([[0, 1, 5, 0], []])) == [b"ab", b""]
    for wrong in (3, 6, -1):
        with pytest.raises(TokenizeError, match=f"id {wrong} is not in the vocabulary"):
            tok.decode(Ragged.from_rows([[1, wrong]]))
    with pytest.raises(TokenizeError, match="integers"):
        tok.decode(Ragged.from_rows([[1.5]]))


def test_saved_tokenizers_come_back_the_same(tmp_path, small):
    small.save(tmp_path / "tok")
    back = load_tokenizer(tmp_path / "tok")
    assert isinstance(back, RwkvTokenizer)
    assert back.fingerprint == small.fingerprint
    assert back.encode(["there"]).equals(small.encode(["there"]))
    assert pickle.loads(pickle.dumps(small)).encode(["there"]).equals(small.encode(["there"]))
    assert RwkvTokenizer({1: b"a"}).fingerprint != RwkvTokenizer({2: b"a"}).fingerprint


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("33 ' ' 1", (33, b" ")),
        ("256 b'\\xff' 1", (256, b"\xff")),
        ('274 " \'" 2', (274, b" '")),
        ("9 '\u4e2d' 3", (9, b"\xe4\xb8\xad")),
        ("9 'it\\'s' 4", (9, b"it's")),
    ],
)
def test_lines_hold_an_id_a_literal_and_its_length(line, expected):
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("2 'ab' 3", "has 2 bytes, not 3"),
        ("2 '\u00e9' 1", "has 2 bytes, not 1"),
        ("2 __import__('os') 1", "not of the form"),
        ("2 'a' 'b' 2", "not of the form"),
        ("2 'a'+'b' 2", "not of the form"),
        ("", "not of the form"),
        ("two 'a' 1", "not of the form"),
        ("2 '\\ud800' 3", "not a string or bytes"),
        ("2 '\\x4' 1", "not a string or bytes"),
        ("2 b'\u00e9' 2", "not a string or bytes"),
        ("1 'b' 1", "id 1 is that of an earlier line"),
    ],
)
def test_a_fault_in_the_file_is_named_with_its_line(tmp_path, line, fault):
    file = tmp_path / "rwkv_vocab.txt"
    file.write_text("1 'a' 1\n" + line + "\n3 'c' 1\n", encoding="utf-8")
    with pytest.raises(TokenizeError, match=rf"rwkv_vocab\.txt, line 2: .*{fault}"):
        RwkvTokenizer.load(file)


def test_a_vocabulary_that_is_none_is_refused_with_its_name(tmp_path):
    for content, fault in (
        ("0 'a' 1", "0 is the end of text"),
        ("1 'a' 1\n2 'a' 1", "id 1 too"),
        ("1 '' 0", "empty"),
    ):
        (tmp_path / "my_vocab.txt").write_text(content)
        with pytest.raises(TokenizeError, match=rf"my_vocab\.txt: .*{fault}"):
            RwkvTokenizer.load(tmp_path / "my_vocab.txt")
    (tmp_path / "my_vocab.txt").write_bytes(b"1 '\xff' 1")
    with pytest.raises(TokenizeError, match="cannot be read"):
        RwkvTokenizer.load(tmp_path / "my_vocab.txt")
    with pytest.raises(TokenizeError, match="cannot be read"):
        RwkvTokenizer.load(tmp_path / "missing.txt")


@pytest.mark.parametrize("number", ["16777216", "4294967295", "9" * 5000])
def test_ids_for_which_no_array_has_room_are_refused(tmp_path, number):
    path = tmp_path / "vocab.txt"
    path.write_text(f"1 'a' 1\n2 'b' 1\n3 'c' 1\n{number} 'd' 1\n")
    with pytest.raises(
        TokenizeError, match=r"number the tokens below 16777216|line 4: .* is not of the form"
    ) as caught:
        RwkvTokenizer.load(path)
    assert len(str(caught.value)) < 300


def test_an_empty_file_is_no_rwkv_vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("")
    assert not is_rwkv(path)
    path.write_text("1 'a' 1\n")
    assert is_rwkv(path)
