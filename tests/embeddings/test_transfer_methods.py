"""Rows by the mean of pieces and by least squares on words, against dense algebra."""

import numpy as np
import pytest
from small_tokenizers import SENTENCES, byte_fallback, byte_level, wordpiece

from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods import Fit, Mean, TableName
from tersely.embeddings.transfer.methods.fit import DRAW, solve
from tersely.embeddings.transfer.passages import LONGEST, PASSAGE, SHORTEST, count_words, part_of, passages
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView


class Pair:
    """Two vocabularies, and a random table for the old one."""

    def __init__(self, old, new):
        self.old, self.new = ByteView.of(old), ByteView.of(new)
        self.old_pieces, self.new_pieces = Decomposition(old, self.old), Decomposition(new, self.new)
        self.match = Match.of(self.old, self.old_pieces, self.new, {})
        self.table = np.random.default_rng(0).normal(size=(len(self.old), 9)).astype(np.float32)


@pytest.fixture(scope="module")
def pair():
    return Pair(wordpiece(90), byte_level(500, [text.lower() for text in SENTENCES[::2]]))


@pytest.fixture(scope="module")
def words():
    from collections import Counter

    counts = Counter()
    for text in SENTENCES:
        count_words(counts, text.lower())
    return counts


def test_means_are_means_of_the_pieces(pair):
    rows = Mean(pair.match).rows(pair.table, TableName.INPUTS)
    text = ~pair.old.special
    for number, token in enumerate(pair.new.tokens):
        ids = pair.old.ids.get(token, [])[:1] or pair.old_pieces(token)
        expected = pair.table[ids].mean(0) if ids else pair.table[text].mean(0)
        np.testing.assert_allclose(rows[number], expected, atol=1e-6)


def test_shared_tokens_have_exactly_their_rows_under_both(pair, words):
    shared = [number for number, token in enumerate(pair.new.tokens) if token in pair.old.ids]
    assert len(shared) > 50
    for method in (Mean(pair.match), Fit(pair.match, words, pair.old_pieces, pair.new_pieces)):
        rows = method.rows(pair.table, TableName.INPUTS)
        for number in shared:
            assert (rows[number] == pair.table[pair.old.same(pair.new.tokens[number], "", False)]).all()
            assert ORIGINS[method.origins[number]] is Origin.COPIED


def test_the_fit_is_the_least_squares_of_its_equations(pair, words):
    fit = Fit(pair.match, words, pair.old_pieces, pair.new_pieces)
    rows, start = fit.rows(pair.table, TableName.INPUTS), Mean(pair.match).rows(pair.table, TableName.INPUTS)
    free = np.flatnonzero(fit.origins == ORIGINS.index(Origin.FITTED))
    assert len(free) > 20
    left, right = [], []
    for word, count in words.items():
        old, new = pair.old_pieces.of_word(word), pair.new_pieces.of_word(word)
        if old and new:
            line = np.zeros(len(pair.new))
            np.add.at(line, new, 1 / len(new))
            left.append(np.sqrt(count) * line[free])
            right.append(np.sqrt(count) * (pair.table[old].mean(0) - line @ start))
    left.append(np.sqrt(DRAW) * np.eye(len(free)))
    right.append(np.zeros((len(free), start.shape[1])))
    expected, *_ = np.linalg.lstsq(np.vstack(left), np.vstack(right), rcond=None)
    np.testing.assert_allclose(rows[free] - start[free], expected, atol=1e-3)
    others = np.setdiff1d(np.arange(len(start)), free)
    assert (rows[others] == start[others]).all()


def test_words_come_out_nearer_than_by_the_mean(pair, words):
    fit = Fit(pair.match, words, pair.old_pieces, pair.new_pieces)
    fitted = fit.origins == ORIGINS.index(Origin.FITTED)

    def lack(rows):
        found = [
            count * np.square(rows[new].mean(0) - pair.table[old].mean(0)).sum()
            for word, count in words.items()
            if (old := pair.old_pieces.of_word(word)) and (new := pair.new_pieces.of_word(word))
            if fitted[new].all()
        ]
        assert len(found) > 10
        return sum(found)

    assert lack(fit.rows(pair.table, TableName.INPUTS)) < 0.5 * lack(
        Mean(pair.match).rows(pair.table, TableName.INPUTS)
    )


def test_a_token_that_continues_takes_continuing_rows():
    pair = Pair(wordpiece(), byte_fallback())
    rows, spellings = Mean(pair.match).rows(pair.table, TableName.INPUTS), pair.old.spellings
    for number in pair.new.ids[b"s"][:1]:
        assert (rows[number] == pair.table[spellings.index("##s")]).all()
        assert not (rows[number] == pair.table[spellings.index("s")]).all()


def test_a_token_that_mostly_begins_words_takes_their_rows(pair):
    composed = np.flatnonzero(pair.match.where(Origin.COMPOSED) & ~pair.new.begins)
    token = next(
        number for number in composed if pair.new.tokens[number] in (b"the", b"wa", b"lk", b"er", b"it")
    )
    word = pair.new.tokens[token]
    for share, begins in ((np.nan, False), (0.5, False), (0.6, True)):
        shares = np.full(len(pair.new), np.nan)
        shares[token] = share
        match = Match.of(pair.old, pair.old_pieces, pair.new, {}, beginnings=shares)
        assert ORIGINS[match.origins[token]] is Origin.COMPOSED
        assert match.pieces[token].tolist() == pair.old_pieces(b" " + word if begins else word)
    assert pair.old_pieces(b" " + word) != pair.old_pieces(word)


def test_the_solver_agrees_with_a_dense_one():
    from scipy import sparse

    generator = np.random.default_rng(1)
    square = generator.normal(size=(40, 40))
    matrix, right = square @ square.T + 2 * np.eye(40), generator.normal(size=(40, 3))
    right[:, 1] = 0
    np.testing.assert_allclose(
        solve(sparse.csr_array(matrix), right), np.linalg.solve(matrix, right), atol=1e-4
    )


def test_passages_keep_all_words_and_hold_a_tenth_out():
    text = " ".join(SENTENCES)
    found = list(passages([text, "", "x" * 3 * PASSAGE]))
    assert " ".join(passage for passage, _ in found[:-1]) == text
    assert all(len(passage) <= PASSAGE for passage, _ in found[:-1])
    assert sum(out for _, out in found) == len(found) // 10


def test_parts_of_a_passage_are_whole_words_in_a_row_and_as_often_short_as_long():
    generator = np.random.default_rng(0)
    text = " ".join(SENTENCES)[:2000]
    parts = [part_of(text, generator) for _ in range(400)]
    assert all(f" {part} " in f" {text} " and len(part) >= SHORTEST for part in parts)
    assert max(map(len, parts)) < LONGEST + 40
    middle = np.sqrt(SHORTEST * LONGEST)
    assert 0.4 < np.mean([len(part) < middle for part in parts]) < 0.6
    assert part_of("short", generator) == "short"


def test_words_have_the_blank_before_them():
    from collections import Counter

    counts = Counter()
    count_words(counts, "one two\nthree(four")
    assert counts == dict.fromkeys((b"one", b" two", b"three", b"(", b"four"), 1)
