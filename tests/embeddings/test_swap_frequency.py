"""Rows of decoders that predict tokens as often as they occur, against regressions of numpy, a token at a time."""

from collections import Counter

import numpy as np
import pytest
from small_tokenizers import SENTENCES, byte_level, unigram

from tersely.embeddings.transfer.match import ORIGINS, Match, Origin
from tersely.embeddings.transfer.methods import Frequency, Mean, TableName
from tersely.embeddings.transfer.methods.frequency import SHARE
from tersely.embeddings.transfer.passages import count_words
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.vocabulary import ByteView


@pytest.fixture(scope="module")
def made():
    """Two vocabularies, how often their tokens occur, and what the class makes of them; None: of no words."""
    old_tokenizer, new_tokenizer = unigram(), byte_level(500)
    old, new = ByteView.of(old_tokenizer), ByteView.of(new_tokenizer)
    pieces = Decomposition(old_tokenizer, old), Decomposition(new_tokenizer, new)
    match, words = Match.of(old, pieces[0], new, {}), Counter()
    for text in SENTENCES:
        count_words(words, text)
    counts = [np.zeros(len(view)) for view in (old, new)]
    for word, number in words.items():
        for count, cut in zip(counts, pieces, strict=True):
            np.add.at(count, cut.of_word(word), number)
    methods = {tied: Frequency(match, old, words, *pieces, tied) for tied in (True, False)}
    return match, old, counts, methods | {None: Frequency(match, old, {}, *pieces, True)}


def table(match, counts, noise):
    """Old rows that change with the logarithms of counts, and otherwise by chance."""
    generator = np.random.default_rng(0)
    change = generator.normal(size=8)
    rest = noise * generator.normal(size=(len(match.ordinary), 8))
    return (np.outer(np.log(counts[0] + 0.5), change) + rest).astype(np.float32), change


def halves(old, counts, number):
    """The two tokens that are this one in a row, the rarer of them as frequent as can be; None if there are none."""
    token, ways = old.tokens[number], []
    for cut in range(1, len(token)):
        two = [
            next((i for i, t in enumerate(old.tokens) if t == part), None)
            for part in (token[:cut], token[cut:])
        ]
        if None not in two:
            ways.append((min(counts[two[0]], counts[two[1]]), -cut, two))
    return max(ways)[2] if ways else None


def test_rows_are_moved_as_old_tokens_differ_from_their_halves(made):
    match, old_view, counts, methods = made
    old, _ = table(match, counts, 1.0)
    logs, new_logs = (np.log(count + 0.5) for count in counts)
    lacks, differences, weights = [], [], []
    for number in np.flatnonzero(counts[0]):
        if (two := halves(old_view, counts[0], number)) is not None:
            lacks.append([1, logs[number] - logs[two].mean()])
            differences.append(old[number] - old[two].mean(0))
            weights.append(counts[0][number] ** 0.25)
    assert len(weights) > 20
    offset, slope = np.linalg.lstsq(
        np.array(lacks) * np.array(weights)[:, None], np.array(differences) * np.array(weights)[:, None]
    )[0]
    mean, found = (method.rows(old, TableName.HEAD) for method in (Mean(match), methods[False]))
    moved = [i for i in np.flatnonzero(match.where(Origin.COMPOSED)) if len(match.pieces[i]) > 1]
    assert len(moved) > 50
    for number in moved:
        lack = new_logs[number] - logs[match.pieces[number]].mean()
        wanted = mean[number] + SHARE * (offset + lack * slope)
        np.testing.assert_allclose(found[number], wanted, atol=1e-3)
    others = np.setdiff1d(np.arange(len(mean)), moved)
    assert (found[others] == mean[others]).all()
    assert {ORIGINS[number] for number in methods[False].origins[moved]} == {Origin.FITTED}


def test_where_rows_are_counts_and_nothing_else_a_row_has_its_share_of_its_own(made):
    match, _, counts, methods = made
    old, change = table(match, counts, 0.0)
    moved = match.where(Origin.COMPOSED) & (match.pieces.lengths > 1)
    wanted = np.outer(np.log(counts[1] + 0.5), change)[moved]
    before, after = (
        np.linalg.norm(method.rows(old, TableName.HEAD)[moved] - wanted, axis=1)
        for method in (Mean(match), methods[False])
    )
    np.testing.assert_allclose(after, (1 - SHARE) * before, atol=1e-3)


def test_inputs_that_predict_nothing_are_the_means_of_pieces(made):
    match, _, counts, methods = made
    old, _ = table(match, counts, 1.0)
    mean = Mean(match).rows(old, TableName.INPUTS)
    assert (methods[False].rows(old, TableName.INPUTS) == mean).all()
    assert not np.allclose(methods[True].rows(old, TableName.INPUTS), mean)


def test_columns_are_made_each_by_itself(made):
    match, _, counts, methods = made
    old, _ = table(match, counts, 1.0)
    whole = methods[True].rows(old, TableName.INPUTS)
    parts = [methods[True].rows(old[:, part], TableName.INPUTS) for part in (slice(3), slice(3, None))]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)


def test_without_tokens_that_are_two_others_rows_are_means(made):
    match, old, _, methods = made
    method = methods[None]
    rows = np.random.default_rng(0).normal(size=(len(old), 4)).astype(np.float32)
    assert (method.rows(rows, TableName.INPUTS) == Mean(match).rows(rows, TableName.INPUTS)).all()
