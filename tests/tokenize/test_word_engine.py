"""Our own engine for byte-level BPE against the vocabulary's own library: the same ids, whatever the text."""

import json
import random
import sys
import unicodedata
import warnings

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from small import TEXTS, tiny_bpe
from vocabularies import NASTY, changed, rank_file, with_added

from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.subword import known_words
from tersely.tokenize.subword.huggingface import HuggingFaceModel
from tersely.tokenize.subword.merges import merge_table, merge_word
from tersely.tokenize.subword.steady import doubtful_characters
from tersely.tokenize.subword.tiktoken_ranks import TiktokenModel
from tersely.tokenize.subword.word_engine import WordEngine
from tersely.tokenize.words.tables import kinds

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LETTERS = "aAsStTrRlLvVeEdmM' \t\n\r\u00a0\u2003\u3000.!,0123\u00bd\u0664\u00e9\u0301\u017f\u4e2d\u200b\U0001f600\uffff"
ODD = [
    *NASTY,
    *TEXTS,
    "a" * 100_000,
    " " * 100_000,
    "\n " * 5_000,
    "".join(map(chr, range(0x20, 0xD800, 7))),
    "a\n  ",
    "a \r\n\t",
    "\u200b\u180e x\u200by",
    "word\uffff<|endoftext|> \ua7dc\u0cdc \U00016ea0",
    "'sa I'VEn 'LLl x'ma",
]


def cl100k_json(**model):
    """A small vocabulary behind the pattern of Llama 3."""
    content = json.loads(tiny_bpe().to_str())
    split = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
    content["model"] |= model
    return json.dumps(content)


def models():
    yield "gpt2", HuggingFaceModel(tiny_bpe().to_str(), 1)
    yield "llama 3", HuggingFaceModel(cl100k_json(), 1)
    yield "whole words", HuggingFaceModel(cl100k_json(ignore_merges=True), 1)
    yield "composed", HuggingFaceModel(changed(tiny_bpe().to_str(), normalizer={"type": "NFC"}), 1)
    yield "r50k", TiktokenModel(rank_file(), "r50k_base", 1)
    yield "cl100k", TiktokenModel(rank_file(), "cl100k_base", 1)
    yield "allowed", TiktokenModel(rank_file(), "cl100k_base", 1, allowed=["<|endoftext|>"])


@pytest.fixture(params=list(models()), ids=lambda pair: pair[0], scope="module")
def model(request):
    return request.param[1]


@pytest.fixture(scope="module")
def engine(model):
    return WordEngine.of(model)


def test_ids_are_the_librarys_on_odd_texts(model, engine):
    assert engine is not None
    for _ in range(2):  # the words are new, then known
        assert engine.encode(ODD).equals(model.encode(ODD))
    assert engine.encode([]).equals(model.encode([]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from(LETTERS) | st.characters(exclude_categories=["Cs"]), max_size=40)))
def test_ids_are_the_librarys_on_any_texts(model, engine, texts):
    assert engine.encode(texts).equals(model.encode(texts))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["gpt2/tokenizer.json", "cl100k_base.tiktoken"])
def test_ids_are_the_librarys_on_shared_texts(shared, name):
    from tersely.corpus import find_sources

    tok = SubwordTokenizer.load(shared / "tokenizers" / name, fast=False)
    engine = WordEngine.of(tok.model)
    texts = json.loads((shared / "fixtures" / "blns.json").read_text())
    for folder in ("multilingual", "prompts", "code"):
        for source in find_sources([shared / folder])[0]:
            for batch in source.batches():
                texts += batch.strings[::40]
    assert engine.encode(texts).equals(tok.model.encode(texts))
    assert sum(map(len, texts)) > 500_000


def test_ids_stay_the_librarys_when_the_table_forgets(monkeypatch, model):
    monkeypatch.setattr(known_words, "MOST_SLOTS", known_words._FIRST_SLOTS)
    draw = random.Random(0)
    texts = [" ".join(f"word{draw.randrange(40_000)}" for _ in range(400)) for _ in range(100)]
    engine = WordEngine.of(model)
    assert engine.encode(texts).equals(model.encode(texts))
    assert engine.encode(texts[::-1]).equals(model.encode(texts[::-1]))
    assert len(engine._tables[0].slots) == known_words._FIRST_SLOTS


def test_a_table_that_forgets_keeps_what_was_met_often(monkeypatch, model):
    monkeypatch.setattr(known_words, "MOST_SLOTS", known_words._FIRST_SLOTS)
    engine = WordEngine.of(model)
    often = [" ".join(f" qx{i}" for i in range(100))] * 50
    engine.encode(often)
    table = engine._tables[0]
    known = int(table.used[0])
    engine._tables[0] = known_words.with_room(table)
    assert 0 < engine._tables[0].used[0] < known
    met = int((engine._tables[0].slots[:, 3] & 0xFFFFFFFF).max())
    assert 20 < met <= 50 * 100  # half as often as before


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 12)] * 2), max_size=20), st.lists(st.integers(0, 3), max_size=60))
def test_merging_takes_the_lowest_rank_and_of_equals_the_leftmost(pairs, word):
    rules = {pair: (rank, 4 + rank) for rank, pair in enumerate(dict.fromkeys(pairs))}
    table = merge_table([(*pair, *rule) for pair, rule in rules.items()], range(256))
    expected = list(word)
    while ranks := [rules[pair][0] for pair in zip(expected, expected[1:], strict=False) if pair in rules]:
        place = next(
            i for i in range(len(expected) - 1) if rules.get((*expected[i : i + 2],), (-1,))[0] == min(ranks)
        )
        expected[place : place + 2] = [rules[expected[place], expected[place + 1]][1]]
    out = np.empty(len(word), np.uint32)
    size = merge_word(table, np.array(word, np.uint8), out, 0)
    assert out[:size].tolist() == expected


@pytest.mark.parametrize(
    "splitter",
    [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False), "llama 3"],
    ids=["gpt2", "llama3"],
)
def test_a_character_that_is_not_doubtful_has_its_class_in_the_library(splitter):
    if splitter == "llama 3":
        splitter = tokenizers.pre_tokenizers.Split(tokenizers.Regex(LLAMA3), "isolated")

    def starts(text):
        return [start for _, (start, _) in splitter.pre_tokenize_str(text)]

    table = doubtful_characters(starts)
    names, codes, _ = kinds()
    trusted = table.classes[table.pages].reshape(-1) == 0
    letters = 0
    for point in np.flatnonzero(trusted).tolist():
        kind = names[codes[point]]
        if kind[0] == "L":
            letters += 1
            assert len(starts(f"a{chr(point)}a")) == 1, hex(point)
        elif point in (0xA, 0xD):
            continue  # they go with what comes before them
        elif "space" in kind:
            assert starts(f"!{chr(point)}\t!")[1] == 1, hex(point)
        elif kind[0] == "N":
            assert starts(f"a{chr(point)}a") in ([0, 1, 2], [0, 1]), hex(point)
            assert len(starts(f"1{chr(point)}")) == 1, hex(point)
        elif (point < 0x10000 or 0x1F000 <= point < 0x20000) and not 0xD800 <= point < 0xE000:
            assert len(starts(f"!{chr(point)}!")) == 1, hex(point)
    assert letters > 90_000


def test_characters_that_no_library_was_asked_about_are_doubtful():
    asked, unasked = doubtful_characters(lambda text: [0]), doubtful_characters(None)
    assert unasked.classes.sum() > 0
    assert asked.classes[asked.pages].sum() < unasked.classes[unasked.pages].sum()
    assert asked.classes[asked.pages[0xFFFF >> 6], 0xFFFF & 63]  # no character: it hides special tokens


def test_characters_that_are_newer_than_pythons_tables_are_doubtful_where_text_is_composed():
    table = doubtful_characters(None, composed=True)
    names, codes, _ = kinds()
    assigned = np.array([not name.startswith(("Cn", "Cs")) for name in names])[codes]
    plain = doubtful_characters(None)
    trusted = plain.classes[plain.pages].reshape(-1) == 0
    newest = next(
        point
        for point in np.flatnonzero(assigned & trusted).tolist()
        if unicodedata.category(chr(point)) == "Cn"
    )
    assert table.classes[table.pages[newest >> 6], newest & 63]


@pytest.mark.parametrize("flags", [{}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}], ids=str)
def test_added_tokens_are_found_as_the_library_finds_them(flags):
    model = HuggingFaceModel(with_added(tiny_bpe().to_str(), "wor", **flags), 1)
    texts = ["a word wor  wor\n", "no such", "wor", *TEXTS]
    assert WordEngine.of(model).encode(texts).equals(model.encode(texts))


@pytest.mark.parametrize(
    "parts",
    [
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {"normalizer": {"type": "Lowercase"}},
    ],
    ids=str,
)
def test_rules_that_are_not_known_are_left_to_the_library(parts):
    assert WordEngine.of(HuggingFaceModel(changed(tiny_bpe().to_str(), **parts), 1)) is None


@pytest.mark.parametrize(
    "pattern", [LLAMA3.replace("(?i:", "(?:"), LLAMA3.replace("{1,3}", "")], ids=["case", "digits"]
)
def test_patterns_that_differ_in_little_are_left_to_the_library(pattern):
    content = json.loads(cl100k_json())
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern
    assert WordEngine.of(HuggingFaceModel(json.dumps(content), 1)) is None


def test_a_vocabulary_without_some_byte_is_left_to_the_library():
    content = json.loads(tiny_bpe().to_str())
    content["model"] = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    assert WordEngine.of(HuggingFaceModel(json.dumps(content), 1)) is None


def test_the_engine_is_used_where_gigatoken_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tok = SubwordTokenizer(tiny_bpe().to_str(), threads=2)
    assert tok.engine == "the engine for words"
    assert tok.encode(ODD).equals(SubwordTokenizer(tiny_bpe().to_str(), fast=False).encode(ODD))
    assert SubwordTokenizer(tiny_bpe().to_str(), fast=False).engine == "library"


def test_the_library_takes_over_at_the_first_difference(monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    tok = SubwordTokenizer(tiny_bpe().to_str())
    plain = SubwordTokenizer(tiny_bpe().to_str(), fast=False)
    engine = tok._fast._engine
    monkeypatch.setattr(engine, "encode", lambda texts: plain.model.encode([text + "x" for text in texts]))
    with pytest.warns(UserWarning, match="without the engine for words"):
        assert tok.encode(TEXTS).equals(plain.encode(TEXTS))
    assert tok.engine == "library"


def test_a_special_token_in_its_hidden_spelling_is_found_as_the_library_finds_it():
    stored = tokenizers.Tokenizer.from_str(tiny_bpe().to_str())
    stored.add_special_tokens(["<more>"])
    model = HuggingFaceModel(stored.to_str(), 1)
    assert "<more>" in [token["content"] for token in model.hidden]
    texts = ["a <more> b", "a \uffff<more> b"]
    assert WordEngine.of(model).encode(texts).equals(model.encode(texts))
    assert model.token_id("<more>") in model.encode(texts)[1]
