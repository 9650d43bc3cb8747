"""BPE from counts: the merges of tokenizers, superwords, and files that every library opens."""

import json
from collections import Counter

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from small import TEXTS
from tokenizers import models, pre_tokenizers, trainers

from tersely import Ragged
from tersely.errors import UsageError
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.train import Split, WordCounter, train_bpe
from tersely.tokenize.train.bpe import PRICE, byte_characters
from tersely.tokenize.train.merges import learn_merges
from tersely.tokenize.train.reference import learn_merges_slowly

PHRASES = [
    f"at the end of the day {i}, it is what it is: one of the best\nof the {i % 7}" for i in range(300)
]


def counted(texts, split=Split.GPT2):
    with WordCounter(1 << 24, split) as counter:
        counter.add(texts)
        return counter.finish(1 << 40, PRICE)


def merges_of(tokenizer):
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def trained_by_the_library(texts, vocab_size, min_count):
    peer = tokenizers.Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator(texts, trainer)
    return peer


@settings(max_examples=30)
@given(st.lists(st.text("ab \u00e9", max_size=40), max_size=6), st.integers(1, 3))
def test_the_tokenizer_is_the_one_that_tokenizers_trains(texts, min_count):
    mine, peer = (
        train_bpe(counted(texts), 320, min_count=min_count),
        trained_by_the_library(texts, 320, min_count),
    )
    assert merges_of(mine) == merges_of(peer)
    assert mine.get_vocab() == peer.get_vocab()


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "vocab_size"), [("prose/peps", 8257), ("multilingual/udhr", 3000)])
def test_thousands_of_merges_equal_tokenizers_on_shared_corpora(shared, name, vocab_size):
    from tersely.corpus import find_sources

    texts = []
    for source in find_sources([shared / f"{name}.jsonl.zst"])[0]:
        for batch in source.batches():
            texts += batch.texts
    mine, peer = train_bpe(counted(texts), vocab_size), trained_by_the_library(texts, vocab_size, 2)
    assert len(merges_of(mine)) > 2000
    assert json.loads(mine.to_str())["model"] == json.loads(peer.to_str())["model"] | {"unk_token": None}


rows_of_symbols = st.lists(st.lists(st.integers(0, 3), max_size=14), max_size=6)


@settings(max_examples=150)
@given(rows_of_symbols, st.data())
def test_merges_equal_those_of_the_slow_twin(rows, data):
    counts = data.draw(st.lists(st.integers(1, 5), min_size=len(rows), max_size=len(rows)))
    weights = data.draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))
    options = {"min_count": data.draw(st.integers(1, 4)), "max_weight": data.draw(st.integers(1, 9))}
    given_merges = data.draw(st.sampled_from([[], [(0, 1)], [(0, 0), (4, 4), (1, 4)], [(3, 3), (2, 4)]]))
    slow = learn_merges_slowly(rows, counts, weights, 12, given=given_merges, **options)
    fast = learn_merges(
        Ragged.from_rows(rows, np.int32),
        np.array(counts, np.int64),
        np.array(weights, np.int64),
        12,
        given=np.array(given_merges, np.int32).reshape(-1, 2),
        **options,
    )
    assert [tuple(merge) for merge in fast.tolist()] == slow


def test_merges_go_on_from_given_ones_as_if_they_were_learned():
    words = counted(TEXTS)
    rows = Ragged(words.words.values.astype(np.int32), words.words.offsets)
    whole = learn_merges(rows, words.counts, np.ones(256, np.int64), 60)
    again = learn_merges(rows, words.counts, np.ones(256, np.int64), 60, given=whole[:25])
    assert len(whole) == 60
    assert np.array_equal(whole, again)


def test_counts_beyond_32_bits_are_exact():
    rows = Ragged.from_rows([[0, 1], [2, 3]], np.int32)
    counts = np.array([2**40, 2**40 + 1], np.int64)
    assert learn_merges(rows, counts, np.ones(4, np.int64), 2).tolist() == [[2, 3], [0, 1]]


def test_progress_is_told_and_ends_with_all_merges():
    told = []
    train_bpe(counted(TEXTS), 280, on_progress=told.append)
    assert told[-1] == 280 - 257


def test_byte_characters_are_those_of_tokenizers():
    assert sorted(byte_characters()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    every = "".join(map(chr, range(0x100))).encode()
    seen = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(every.decode())
    assert "".join(byte_characters()[byte] for byte in every) == seen[0][0]


@pytest.mark.parametrize("superwords", [False, True])
@given(text=st.text())
def test_any_text_round_trips(superwords, text):
    tokenizer = with_superwords() if superwords else plain()
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


_MADE = {}


def plain():
    if "plain" not in _MADE:
        _MADE["plain"] = train_bpe(counted(PHRASES), 310)
    return _MADE["plain"]


def with_superwords():
    if "superwords" not in _MADE:
        _MADE["superwords"] = train_bpe(
            counted(PHRASES), 310, superwords=counted(PHRASES, Split.LOOSE), superword_share=0.2
        )
    return _MADE["superwords"]


def test_superwords_make_sequences_shorter_at_the_same_size():
    assert plain().get_vocab_size() == with_superwords().get_vocab_size() == 310
    lengths = [sum(len(e.ids) for e in tok.encode_batch(PHRASES)) for tok in (plain(), with_superwords())]
    assert lengths[1] < 0.8 * lengths[0]


def test_superwords_have_four_words_at_most_and_keep_to_a_line():
    ordinary = set(plain().get_vocab())
    learned = [token for token in with_superwords().get_vocab() if token not in ordinary]
    assert any(token.count("\u0120") > 1 for token in learned)
    for token in learned:
        assert token.count("\u0120") <= 4
        assert "\u010a" not in token.strip("\u010a")
        assert ":\u0120" not in token


def test_encoding_gives_the_tokens_that_training_left():
    """The library applies the merges to the text as the second stage did: nothing is lost between the two."""
    loose = counted(PHRASES, Split.LOOSE)
    tokenizer = with_superwords()
    ranks = {merge: rank for rank, merge in enumerate(merges_of(tokenizer))}
    total = 0
    for word, count in zip(loose.words, loose.counts.tolist(), strict=True):
        parts = [byte_characters()[byte] for byte in word]
        while True:
            pairs = [ranks.get(pair, len(ranks)) for pair in zip(parts, parts[1:], strict=False)]
            if not pairs or min(pairs) == len(ranks):
                break
            place = pairs.index(min(pairs))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        total += count * len(parts)
    assert total == sum(len(encoding.ids) for encoding in tokenizer.encode_batch(PHRASES))


def test_files_open_everywhere(tmp_path):
    from transformers import PreTrainedTokenizerFast

    path = tmp_path / "tokenizer.json"
    with_superwords().save(str(path))
    mine = SubwordTokenizer.load(path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(path))
    assert mine.eos_id == 0
    assert mine.encode(PHRASES).to_list() == theirs(PHRASES, add_special_tokens=False).input_ids
    assert mine.decode(mine.encode(PHRASES)) == [text.encode() for text in PHRASES]


@pytest.mark.parametrize(
    ("vocab_size", "specials", "words"),
    [
        (256, ("<|endoftext|>",), "too small"),
        (300, ("<a>", "<a>"), "given twice"),
        (300, ("",), "empty"),
        (400, ("word",), "also a learned token"),
        (400, ("a",), "also a learned token"),
    ],
)
def test_vocabularies_that_cannot_be_are_refused(vocab_size, specials, words):
    with pytest.raises(UsageError, match=words):
        train_bpe(counted(["word word word"] * 9), vocab_size, specials=specials)


def test_a_share_outside_0_and_1_is_refused():
    with pytest.raises(UsageError, match="superword_share"):
        train_bpe(counted(TEXTS), 300, superword_share=1.5)


def test_no_words_give_the_alphabet():
    tokenizer = train_bpe(counted([]), 1000)
    assert tokenizer.get_vocab_size() == 257
    assert len(tokenizer.encode("\u00e9a").ids) == 3


def test_frequent_words_become_tokens():
    commonest = Counter(word for text in TEXTS for word in text.split()).most_common(1)[0][0]
    assert "\u0120" + commonest in train_bpe(counted(TEXTS), 400).get_vocab()
