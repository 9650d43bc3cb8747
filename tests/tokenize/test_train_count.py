"""Counting words: exact at any memory, nothing left behind, long words cut, the rarest dropped."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from small import TEXTS

from tersely import Ragged
from tersely.errors import UsageError
from tersely.tokenize.train import Split, WordCounter
from tersely.tokenize.train.count import Price
from tersely.tokenize.train.words import LONGEST_WORD, LOOSE_PATTERN, cut_long, split_words

ONE = Price(1, 1)
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
NO_AMOUNTS = np.empty(0, np.int64)


def as_counter(counts):
    pairs = zip(counts.words, counts.counts.tolist(), strict=True)
    return Counter({bytes(word): count for word, count in pairs})


def counted(texts, memory=1 << 20, split=Split.GPT2, **more):
    with WordCounter(memory, split, **more) as counter:
        counter.add(texts)
        return counter.finish(1 << 40, ONE)


@given(st.lists(st.text(max_size=60), max_size=5))
def test_counts_are_those_of_the_pattern(texts):
    for split, pattern in ((Split.GPT2, GPT2_PATTERN), (Split.LOOSE, LOOSE_PATTERN)):
        expected = Counter(word.encode() for text in texts for word in regex.findall(pattern, text))
        assert as_counter(counted(texts, split=split)) == expected


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_blanks_part_words_of_any_bytes(texts):
    assert as_counter(counted(texts, split=Split.BLANKS)) == Counter(
        word for text in texts for word in re.split(rb"[ \t\n\r]+", text) if word
    )


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_every_byte_is_in_a_word(texts):
    for split in (Split.GPT2, Split.LOOSE):
        assert split_words(texts, split).values.tobytes() == b"".join(texts)


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=6), max_size=400), st.integers(1, 400))
def test_counts_do_not_depend_on_memory_batches_or_order(words, batch):
    expected = Counter(words)
    results = []
    for order in (words, sorted(words)):
        with WordCounter(1) as counter:
            for start in range(0, len(order), batch):
                counter.add_words(Ragged.from_rows(order[start : start + batch], np.uint8), NO_AMOUNTS)
            assert counter.spilled or len(expected) <= 64
            results.append(counter.finish(1 << 40, ONE))
    assert [as_counter(result) for result in results] == [expected] * 2
    assert results[0].words.equals(results[1].words)
    assert results[0].unique == len(expected)
    assert results[0].occurrences == len(words)


def test_a_part_that_is_too_large_is_parted_again(tmp_path):
    numbers = [f"{number}" for number in range(9_000)]
    with WordCounter(1, folder=tmp_path) as counter:
        for start in range(0, len(numbers), 1000):
            counter.add([" ".join(numbers[start : start + 1000])])
        assert counter.spilled
        assert list(tmp_path.iterdir())
        counts = counter.finish(1 << 40, ONE)
    assert {int(word) for word in as_counter(counts) if word.strip()} == set(range(9_000))
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_on_disk_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), WordCounter(1, folder=tmp_path) as counter:
        counter.add([" ".join(map(str, range(1000)))])
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_memory_that_cannot_hold_a_word_is_refused():
    same_home = Ragged.from_rows([bytes([i % 256, i // 256]) for i in range(65)])
    with pytest.raises(UsageError, match="too little"), WordCounter(1, shift=-1) as counter:
        counter.add_words(same_home, NO_AMOUNTS)


def test_amounts_are_added_up():
    words = Ragged.from_rows([b"a", b"b", b"a"])
    with WordCounter(1 << 20) as counter:
        counter.add_words(words, np.array([2**40, 1, 2**40], np.int64))
        assert as_counter(counter.finish(1 << 40, ONE)) == {b"a": 2**41, b"b": 1}


def test_the_rarest_words_are_dropped_and_equal_ones_together():
    words = [b"often"] * 9 + [b"twice"] * 2 + [b"double"] * 2 + [b"once"]
    with WordCounter(1 << 20) as counter:
        counter.add_words(Ragged.from_rows(words), NO_AMOUNTS)
        counts = counter.finish(11, ONE)  # room for "often" and one of the two, which stand or fall together
    assert as_counter(counts) == {b"often": 9}
    assert (counts.unique, counts.dropped, counts.dropped_occurrences, counts.occurrences) == (4, 3, 5, 14)


@pytest.mark.parametrize("text", ["a" * 100_000, "\u4e2d" * 40_000, "\U0001f600" * 30_000, "\u00e9a" * 999])
def test_long_words_are_cut_between_characters(text):
    words = split_words([text, "short"], Split.GPT2)
    assert b"".join(bytes(word) for word in words).decode() == text + "short"
    assert "".join(bytes(word).decode() for word in words) == text + "short"
    assert words.max_seqlen <= LONGEST_WORD + 3


@given(st.lists(st.binary(max_size=60), max_size=5), st.integers(4, 20))
def test_cut_words_are_the_same_bytes(rows, longest):
    words = Ragged.from_rows(rows, np.uint8)
    cut = cut_long(words, longest)
    assert cut.values.tobytes() == b"".join(rows)
    assert cut.max_seqlen <= longest + 3


def test_documents_may_be_bytes_and_empty():
    assert as_counter(counted([b"a \xff", "", b"\x00 a"])) == {b"a": 1, b" \xff": 1, b"\x00": 1, b" a": 1}
    assert len(counted([]).words) == 0
    assert counted(TEXTS).unique > 100


MEMORY_OF_A_LARGE_COUNT = """
import sys
import numpy as np
from tersely import Ragged
from tersely.tokenize.train import WordCounter
from tersely.tokenize.train.bpe import PRICE

def peak():
    status = open("/proc/self/status").read()  # getrusage also knows the peak of the parent process
    return int(status.split("VmHWM:")[1].split()[0]) << 10

none, digits = np.empty(0, np.int64), np.random.default_rng(0)
with WordCounter(1 << 20) as counter:
    counter.add_words(Ragged.from_rows([b"ab"]), none)  # compiles
    counter.finish(1 << 20, PRICE)
before, memory, unique, given = peak(), 8 << 20, 0, 0
with WordCounter(memory, folder=sys.argv[1]) as counter:
    while given < 10 * memory:
        letters = digits.integers(97, 123, 1 << 20, np.uint8)  # words of 8 letters: hardly any occurs twice
        counter.add_words(Ragged(letters, np.arange(0, len(letters) + 1, 8)), none)
        given += len(letters)
    counts = counter.finish(memory, PRICE)
print(peak() - before, memory, counts.occurrences == given // 8, counts.unique > 0.99 * given // 8)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_bounded_for_ten_times_as_many_different_words(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEMORY_OF_A_LARGE_COUNT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    grown, memory, all_counted, different = done.stdout.split()
    assert (all_counted, different) == ("True", "True")
    assert int(grown) < 6 * int(memory)  # a table, its copy, the words kept; what the allocator holds back
    assert list(tmp_path.iterdir()) == []
