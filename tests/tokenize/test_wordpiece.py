"""WordPiece: ids and offsets are those of the tokenizers library, through every normaliser and odd character."""

import functools
import json
import pickle

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tersely import Ragged, load_tokenizer
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import SubwordTokenizer, Tokenizer, WordPieceRules, WordPieceTokenizer
from tersely.tokenize.wordpiece.reference import greedy_pieces

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROLES = {"bos_token": "[CLS]", "eos_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
WORDS = "the un ##aff ##able ##a ##b ##bc abcd affable ##the Istanbul don caf\u00e9 cafe \u03bf\u03b4\u03cc\u03c2 ##\u03c2 \ud55c\uae00"
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEI0123456789.,!?'#[]-_\u00e9\u00df\u0131\u0130\u01c5\u03c2\u03c3\u03b4\u03bf\u4e2d\u6587"
ALPHABET += (
    "\u1112\u1161\u11ab\ud55c\u0301\u0307\u302e\u1b44\u0627\u0628\u064b\u0ba8\u0bbf\U0001f600\ufb01\u0144"
)
OPTIONS = [
    WordPieceRules(lowercase=False),
    WordPieceRules(lowercase=True),
    WordPieceRules(lowercase=True, strip_accents=False),
    WordPieceRules(lowercase=False, strip_accents=True),
    WordPieceRules(lowercase=True, handle_chinese_chars=False, clean_text=False),
]
ODD = [
    "",
    " ",
    "Hello, un-affable world! [SEP] [UNK] [CLS]",
    "a" * 100_000,
    *("a" * n for n in (99, 100, 101)),
    *("\u00e9" * n + " \ud55c" * n + "\ud55c" * (n // 3) for n in (99, 100, 101, 102)),
    "nul\x00 \x07bell tab\tnew\nline\r\x85 \ufffd \ufeff \u00ad \u200b\u200d \u2028 \u3000 \xa0 \ufffe \U0010ffff \ue000",
    "\u4e2d\u6587abc\u4e2d\uf900\U00020000x \u3042\u30a2",
    "\ud55c\uae00 \u1112\u1161\u11ab \u1112\u1161",
    "\u0627\u064b\u0628 \u0628\u0650",
    "\u0301a\u0301\u0316\u0323e\u0301 \u00e9\u00c9 caf\u00e9 CAF\u00c9 \u01c5 \u0144\u0143",
    "I\u0130\u0131i \u0130stanbul I\u0307",
    "\u039f\u0394\u039f\u03a3 \u03a3 a\u03a3 a\u03a3b \u03c2",
    "\u302e\u302f \u0ba8\u0bbf \u1b44\u302e \u302e\u1b44a \u302ea\u1b44 \U0001d15e\u1b44 \U0001d165\u302e",
    "\u212b\u2126\u212a \ufb01 \u1e9e\u00df \u2167 \u1fb3 \u0390",
    "\U0001f600\U0001f1e9\U0001f1ea don't #hash ##a under_score 3.14 ``x'' \u2014 \u3002\uff01",
]


def vocabulary():
    spelled = SPECIALS + [mark + char for char in ALPHABET for mark in ("", "##")] + WORDS.split()
    return {piece: i for i, piece in enumerate(dict.fromkeys(spelled))}


def library(pieces, rules):
    """The same pipeline, built by hand from the parts of the tokenizers library."""
    model = tokenizers.models.WordPiece(
        pieces, unk_token=rules.unknown, max_input_chars_per_word=rules.max_word_characters
    )
    pipeline = tokenizers.Tokenizer(model)
    pipeline.normalizer = tokenizers.normalizers.BertNormalizer(
        rules.clean_text, rules.handle_chinese_chars, rules.strip_accents, rules.lowercase
    )
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = tokenizers.decoders.WordPiece()
    return pipeline


@functools.cache
def both(option):
    pieces = vocabulary()
    return WordPieceTokenizer(pieces, OPTIONS[option], ROLES), library(pieces, OPTIONS[option])


def assert_equal(tok, peer, texts):
    """Ids, and ranges in characters, are those of the peer; returns how many ids were compared."""
    ids, spans = tok.encode_with_offsets(texts, unit="character")
    assert ids.equals(tok.encode(texts))
    for text, row, span in zip(texts, ids, spans, strict=True):
        expected = peer.encode(text, add_special_tokens=False)
        assert row.tolist() == expected.ids, text[:100]
        assert [tuple(pair) for pair in span.tolist()] == expected.offsets, text[:100]
    return len(ids.values)


@pytest.mark.parametrize("option", range(len(OPTIONS)))
def test_odd_text_gets_the_ids_and_offsets_of_the_library(option):
    assert assert_equal(*both(option), ODD) > 500


@pytest.mark.parametrize("option", range(len(OPTIONS)))
@given(texts=st.lists(st.text(max_size=12) | st.text(ALPHABET + "  ", max_size=25), max_size=4))
def test_any_text_gets_the_ids_of_the_library(option, texts):
    tok, peer = both(option)
    expected = [peer.encode(text, add_special_tokens=False).ids for text in texts]
    assert tok.encode(texts).to_list() == expected
    assert tok.encode_with_offsets(texts)[0].to_list() == expected


@pytest.mark.parametrize("option", range(len(OPTIONS)))
def test_every_character_becomes_what_the_library_makes_of_it(option):
    from tersely.tokenize.wordpiece.normal import normalize

    tok, peer = both(option)
    points = [point for point in range(0x20000 if option == 1 else 0x3400) if not 0xD800 <= point < 0xE000]
    for start in range(0, len(points), 512):
        text = "x".join(map(chr, points[start : start + 512])) + "x"
        raw = np.frombuffer(text.encode(), np.uint8)
        table = tok._characters.of_blocks(np.unique([ord(char) // 256 for char in text]))
        out = np.empty(3 * len(raw), np.uint8)
        size = normalize(tuple(table), raw, 0, len(raw), out, np.empty(0, np.int64))
        words = [word.decode() for word in out[:size].tobytes().split(b"\xff") if word]
        normalized = peer.normalizer.normalize_str(text)
        assert words == [word for word, _ in peer.pre_tokenizer.pre_tokenize_str(normalized)]


PIECES = st.sets(st.text("ab\u00e9\u4e2d", min_size=1, max_size=6), max_size=25)
WORD = st.text("ab\u00e9", min_size=1, max_size=25) | st.text("ab\u00e9\u4e2d", min_size=1, max_size=8)


@given(
    first=PIECES,
    inside=PIECES,
    words=st.lists(WORD, max_size=5),
    prefix=st.sampled_from(["##", "", "\u00e9"]),
)
def test_one_pass_finds_what_the_plain_search_finds(first, inside, words, prefix):
    spelled = dict.fromkeys(["[UNK]", *sorted(first), *(prefix + piece for piece in sorted(inside))])
    pieces = {piece: i for i, piece in enumerate(spelled)}
    rules = WordPieceRules(lowercase=False, handle_chinese_chars=False, prefix=prefix, max_word_characters=20)
    tok = WordPieceTokenizer(pieces, rules)
    assert tok.encode(words).to_list() == [greedy_pieces(word, pieces, rules) for word in words]
    assert tok.encode([" ".join(words)]).values.tolist() == tok.encode(words).values.tolist()


def test_pieces_that_fail_at_every_length_are_found_in_one_pass():
    spelled = ["[UNK]", "a" * 60, "a" * 7, "##" + "a" * 50, "##" + "a" * 11, "##aa", "##ab", "##a", "a"]
    pieces = {piece: i for i, piece in enumerate(spelled)}
    rules = WordPieceRules(max_word_characters=500)
    tok = WordPieceTokenizer(pieces, rules)
    words = ["a" * n + end for n in range(1, 200, 3) for end in ("", "b", "bb", "ba", "c")]
    assert tok.encode(words).to_list() == [greedy_pieces(word, pieces, rules) for word in words]


def test_offsets_are_bytes_of_the_source_through_the_normaliser():
    tok, _ = both(1)
    text = "The CAF\u00c9 \u0130b\x00c  \ud55c!"
    ids, spans = tok.encode_with_offsets([text, ""], bos=True, eos=True)
    raw = text.encode()
    taken = [raw[a:b].decode() for a, b in spans[0][1:-1]]
    assert [tok._spellings[i] for i in ids[0].tolist()[1:-1]] == [
        "the",
        "cafe",
        "i",
        "##bc",
        "ᄒ",
        "##ᅡ",
        "##ᆫ",
        "!",
    ]
    assert taken == ["The", "CAF\u00c9", "\u0130", "b\x00c", "\ud55c", "\ud55c", "\ud55c", "!"]
    assert spans[0][0].tolist() == [0, 0]
    assert spans[0][-1].tolist() == [len(raw)] * 2
    assert spans[1].tolist() == [[0, 0], [0, 0]]
    assert ids[1].tolist() == [tok.bos_id, tok.eos_id]


def test_marks_that_change_places_are_left_to_the_library_and_put_in_order():
    tok, peer = both(1)
    texts = ["the", "\u302e\u1b44a", "", "a\u302e", "\u302e\u1b44", "un"]
    plain = [peer.encode(text).ids for text in texts]
    assert tok.encode(texts, bos=True, eos=True).to_list() == [[2, *row, 3] for row in plain]
    _, spans = tok.encode_with_offsets(texts, bos=True, eos=True)
    assert [len(row) for row in spans] == [len(row) + 2 for row in plain]
    assert spans[1].tolist()[0] == [0, 0]
    assert spans[1].tolist()[-1] == [7, 7]
    assert spans[5].tolist() == [[0, 0], [0, 2], [2, 2]]


def test_text_spelled_like_a_special_token_stays_text():
    tok, _ = both(0)
    ids = tok.encode(["the[SEP][CLS] [MASK]"], eos=True).to_list()[0]
    assert {tok.bos_id, tok.pad_id, 4}.isdisjoint(ids)
    assert ids.count(tok.eos_id) == 1
    bare = WordPieceTokenizer({"[UNK]": 0, "sep": 1, "s": 2, "##ep": 3}, roles={"eos_token": "sep"})
    assert bare.encode(["sep"], eos=True).to_list() == [[2, 3, 1]]
    assert bare.encode(["sep \u302e\u1b44"], eos=True).to_list() == [[2, 3, 0, 1]]  # by the library, too


@pytest.mark.shared_data
@pytest.mark.parametrize("folder", ["prose", "multilingual", "code"])
def test_ids_equal_the_librarys_on_shared_text(shared, folder):
    from tersely.corpus import find_sources

    file = shared / "tokenizers" / "bert-base-cased" / "vocab.txt"
    tok = load_tokenizer(file)
    peer = tokenizers.BertWordPieceTokenizer(str(file), lowercase=False)
    small, small_peer = both(1)
    compared = 0
    for source in find_sources([shared / folder])[0]:
        texts = [text for batch in source.batches() for text in batch.texts]
        texts = [text[:4000] for text in texts[:: max(1, len(texts) // 40)]]
        spelled = [text for text in texts if not any(special in text for special in SPECIALS)]
        compared += assert_equal(tok, peer, spelled) + assert_equal(small, small_peer, texts)
    assert compared > 50_000


@pytest.mark.shared_data
def test_ids_equal_those_of_transformers(shared):
    from transformers import BertTokenizer

    file = shared / "tokenizers" / "bert-base-cased" / "vocab.txt"
    peer = BertTokenizer(str(file), do_lower_case=False)
    tok = WordPieceTokenizer.load(file)
    texts = [text for text in ODD if "[" not in text]
    assert tok.encode(texts, bos=True, eos=True).to_list() == peer(texts).input_ids
    assert (tok.bos_id, tok.eos_id, tok.pad_id) == (peer.cls_token_id, peer.sep_token_id, peer.pad_token_id)
    assert tok.vocab_size == len(peer)


def test_ids_do_not_depend_on_the_count_of_threads():
    expected = both(1)[0].encode_with_offsets(ODD * 3, bos=True)
    for threads in (2, 5):
        parted = WordPieceTokenizer(vocabulary(), OPTIONS[1], ROLES, threads=threads)
        ids, spans = parted.encode_with_offsets(ODD * 3, bos=True)
        assert ids.equals(expected[0])
        assert spans.equals(expected[1])
    with pytest.raises(UsageError, match="threads"):
        WordPieceTokenizer(vocabulary(), threads=-1)


def test_decoding_gives_the_words_as_the_library_joins_them():
    tok, peer = both(1)
    texts = ["the Unaffable, abcd!", "don't", "\u2603 the", ""]
    ids = tok.encode(texts, bos=True, eos=True)
    assert tok.decode(ids) == [b"the unaffable, abcd!", b"don ' t", b"[UNK] the", b""]
    plain = tok.encode(texts).to_list()
    assert [text.decode() for text in tok.decode(tok.encode(texts))] == [
        peer.decode(row, skip_special_tokens=False) for row in plain
    ]
    for wrong in (100_000, -1):
        with pytest.raises(TokenizeError, match=f"id {wrong} is not"):
            tok.decode(Ragged.from_rows([[wrong]]))


def write_vocabulary(folder, pieces, config=None):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder / "vocab.txt"


def test_letters_are_made_small_as_the_config_says_or_the_pieces_show(tmp_path):
    uncased = write_vocabulary(tmp_path / "uncased", [*SPECIALS, "a", "##b"])
    cased = write_vocabulary(tmp_path / "cased", [*SPECIALS, "a", "##B"])
    told = write_vocabulary(
        tmp_path / "told", [*SPECIALS, "a"], {"do_lower_case": False, "strip_accents": True}
    )
    assert WordPieceTokenizer.load(uncased).rules == WordPieceRules(lowercase=True)
    assert WordPieceTokenizer.load(cased).rules == WordPieceRules(lowercase=False)
    assert WordPieceTokenizer.load(told).rules == WordPieceRules(lowercase=False, strip_accents=True)
    assert load_tokenizer(uncased).encode(["Ab"]).to_list() == [[5, 6]]
    assert load_tokenizer(tmp_path / "cased").encode(["aB"]).to_list() == [[5, 6]]


def test_special_tokens_are_those_of_the_config_or_of_the_usual_spelling(tmp_path):
    file = write_vocabulary(tmp_path / "a", ["[PAD]", "[UNK]", "<s>", "</s>", "a"])
    assert (load_tokenizer(file).bos_id, load_tokenizer(file).eos_id, load_tokenizer(file).pad_id) == (
        None,
        None,
        0,
    )
    with pytest.raises(TokenizeError, match="names no bos_token"):
        load_tokenizer(file).encode(["a"], bos=True)
    config = {"cls_token": "<s>", "sep_token": {"content": "</s>"}, "pad_token": None}
    write_vocabulary(tmp_path / "a", ["[PAD]", "[UNK]", "<s>", "</s>", "a"], config)
    assert (load_tokenizer(file).bos_id, load_tokenizer(file).eos_id, load_tokenizer(file).pad_id) == (
        2,
        3,
        None,
    )
    write_vocabulary(tmp_path / "a", ["[UNK]", "a"], {"cls_token": "<none>"})
    with pytest.raises(TokenizeError, match=r"vocab\.txt: the bos_token '<none>' is not in the vocabulary"):
        load_tokenizer(file)


@given(
    lines=st.lists(
        st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=4), max_size=8
    )
)
def test_lines_are_read_as_the_library_reads_them(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("lines") / "vocab.txt"
    file.write_text("\n".join([*lines, "[UNK]"]) + "\n", encoding="utf-8", newline="")
    assert WordPieceTokenizer.load(file)._pieces == tokenizers.models.WordPiece.read_file(str(file))


@pytest.mark.parametrize("option", range(len(OPTIONS)))
def test_saved_tokenizers_come_back_the_same_and_other_libraries_read_them(tmp_path, option):
    tok, _ = both(option)
    tok.save(tmp_path / "saved")
    back = load_tokenizer(tmp_path / "saved")
    assert isinstance(back, WordPieceTokenizer)
    assert isinstance(back, Tokenizer)
    assert (back.rules, back.fingerprint) == (tok.rules, tok.fingerprint)
    assert (back.bos_id, back.eos_id, back.pad_id, back.vocab_size) == (2, 3, 0, tok.vocab_size)
    assert back.encode(ODD, eos=True).equals(tok.encode(ODD, eos=True))
    (tmp_path / "saved" / "tersely_tokenizer.json").unlink()
    assert load_tokenizer(tmp_path / "saved").fingerprint == tok.fingerprint
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    assert theirs.encode("the un-affable").ids == tok.encode(["the un-affable"]).to_list()[0]
    assert theirs.token_to_id("[MASK]") == 4


def test_tokenizers_travel_to_other_processes():
    tok, _ = both(1)
    tok.encode(["the"])
    back = pickle.loads(pickle.dumps(tok))
    assert back.fingerprint == tok.fingerprint
    assert back.encode(ODD).equals(tok.encode(ODD))


def test_fingerprints_change_with_ids():
    pieces = vocabulary()
    every = [both(option)[0] for option in range(len(OPTIONS))]
    every += [
        WordPieceTokenizer(pieces | {"new": len(pieces)}, OPTIONS[0], ROLES),
        WordPieceTokenizer(pieces),
    ]
    assert len({tok.fingerprint for tok in every}) == len(every)
    joined = WordPieceTokenizer(pieces, WordPieceRules(cleanup=False), ROLES)
    assert joined.fingerprint == both(1)[0].fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": None},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {
            "added_tokens": [
                {"id": 5, "content": "new"}
                | dict.fromkeys(["special", "single_word", "lstrip", "rstrip", "normalized"], False)
            ]
        },
    ],
)
def test_a_tokenizer_json_of_other_parts_is_run_by_the_library(tmp_path, change):
    content = json.loads(library({"[UNK]": 0, "a": 1}, OPTIONS[0]).to_str()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert isinstance(load_tokenizer(tmp_path / "tokenizer.json"), SubwordTokenizer)
    with pytest.raises(TokenizeError, match=r"tokenizer\.json cannot be read as a WordPiece vocabulary"):
        WordPieceTokenizer.load(tmp_path)


def test_files_that_are_no_vocabulary_are_refused_with_their_name(tmp_path):
    file = tmp_path / "vocab.txt"
    for content, fault in (
        (b"a\nb\n", r"unknown token '\[UNK\]' is not in the vocabulary"),
        (b"\xff", "cannot be read"),
    ):
        file.write_bytes(content)
        with pytest.raises(TokenizeError, match=rf"vocab\.txt.*{fault}"):
            load_tokenizer(file)
    file.write_text("[UNK]\na\n")
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizeError, match=r"tokenizer_config\.json"):
        load_tokenizer(file)
    for roles, others in (({"first_token": "a"}, ()), ({"eos_token": "b"}, ()), ({}, ["b"])):
        with pytest.raises(TokenizeError, match=r"roles|'b' is not in"):
            WordPieceTokenizer({"[UNK]": 0, "a": 1}, roles=roles, others=others)
    with pytest.raises(TokenizeError, match="same id"):
        WordPieceTokenizer({"[UNK]": 0, "a": 1, "b": 1})
    stored = json.loads(library({"[UNK]": 0, "a": 1}, OPTIONS[0]).to_str())
    stored["model"]["vocab"] = {"[UNK]": "zero"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(TokenizeError, match=r"tokenizer\.json"):
        WordPieceTokenizer.load(tmp_path / "tokenizer.json")


@given(raw=st.binary(max_size=8) | st.text(max_size=4).map(str.encode))
def test_documents_are_utf8_or_refused_where_python_says(raw):
    tok, _ = both(1)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(TokenizeError, match=f"document 1 is not UTF-8 at byte {error.start}") as caught:
            tok.encode(["fine", raw])
        assert caught.value.document == 1
    else:
        assert tok.encode([raw]).equals(tok.encode([text]))


def test_no_documents_and_documents_of_every_kind():
    tok, _ = both(1)
    assert tok.encode([]).to_list() == []
    assert tok.encode_with_offsets([])[1].values.shape == (0, 2)
    assert tok.encode(["", b""], eos=True).to_list() == [[3], [3]]
    assert tok.encode(Ragged.from_rows([b"the", b"caf\xc3\xa9"])).equals(tok.encode(["the", "caf\u00e9"]))
    assert tok.encode(["the"]).values.dtype == np.uint8 if tok.vocab_size <= 256 else np.uint16
    with pytest.raises(UsageError, match="unit"):
        tok.encode_with_offsets(["a"], unit="word")


def test_prepare_takes_a_vocabulary_file(tmp_path, write_jsonl):
    from tersely.corpus import find_sources, prepare

    file = write_vocabulary(tmp_path / "bert", vocabulary())
    sources, _ = find_sources([write_jsonl([{"text": "The caf\u00e9"}, {"text": "un-affable"}])])
    manifest = prepare(sources, tmp_path / "out", file, capacity=16)
    assert (manifest.documents, manifest.quarantined) == (2, 0)
    assert load_tokenizer(tmp_path / "out").fingerprint == load_tokenizer(file).fingerprint


def stored_json(tmp_path, change):
    """The path of a ``tokenizer.json`` that ``change`` has had in hand."""
    stored = json.loads(library(vocabulary(), OPTIONS[1]).to_str())
    change(stored)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(stored))
    return path


def test_a_field_that_the_library_does_without_may_be_missing(tmp_path):
    path = stored_json(tmp_path, lambda stored: stored["normalizer"].pop("strip_accents"))
    tok = load_tokenizer(path)
    assert isinstance(tok, WordPieceTokenizer)
    assert assert_equal(tok, tokenizers.Tokenizer.from_file(str(path)), ODD) > 500


def test_words_without_a_limit_of_their_length(tmp_path):
    path = stored_json(tmp_path, lambda stored: stored["model"].update(max_input_chars_per_word=2**64 - 1))
    tok = WordPieceTokenizer.load(path)
    assert tok.encode(["a" * 500]).lengths.tolist() == [500]
    tok.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == tok.fingerprint


def test_ids_for_which_no_array_has_room_are_refused():
    with pytest.raises(TokenizeError, match="the id 4294967295 is too large"):
        WordPieceTokenizer({"[UNK]": 0, "a": 2**32 - 1})
