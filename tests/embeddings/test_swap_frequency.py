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
    """Two vocabularies, how often their tokens occur, and what the class makes of them."""
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
    return match, counts, {tied: Frequency(match, words, *pieces, tied) for tied in (True, False)}


def table(match, counts, noise):
    """Old rows that change with the logarithms of counts, and otherwise by chance."""
    generator = np.random.default_rng(0)
    change = generator.normal(size=8)
    rest = noise * generator.normal(size=(len(match.ordinary), 8))
    return (np.outer(np.log(counts[0] + 0.5), change) + rest).astype(np.float32), change


def test_rows_are_moved_along_the_regression_on_counts(made):
    match, counts, methods = made
    old, _ = table(match, counts, 1.0)
    mean, found = (method.rows(old, TableName.HEAD) for method in (Mean(match), methods[False]))
    logs, new_logs = (np.log(count + 0.5) for count in counts)
    known = match.ordinary & (counts[0] > 0)
    slope = np.polyfit(logs[known], old[known], 1)[0]
    moved = np.flatnonzero(match.where(Origin.COMPOSED))
    assert len(moved) > 50
    for number in moved:
        lack = new_logs[number] - logs[match.pieces[number]].mean()
        np.testing.assert_allclose(found[number], mean[number] + SHARE * lack * slope, atol=1e-3)
    others = np.setdiff1d(np.arange(len(mean)), moved)
    assert (found[others] == mean[others]).all()
    assert {ORIGINS[number] for number in methods[False].origins[moved]} == {Origin.FITTED}


def test_where_rows_are_counts_and_nothing_else_a_row_has_its_share_of_its_own(made):
    match, counts, methods = made
    old, change = table(match, counts, 0.0)
    moved = match.where(Origin.COMPOSED)
    wanted = np.outer(np.log(counts[1] + 0.5), change)[moved]
    before, after = (
        np.linalg.norm(method.rows(old, TableName.HEAD)[moved] - wanted, axis=1)
        for method in (Mean(match), methods[False])
    )
    np.testing.assert_allclose(after, (1 - SHARE) * before, atol=1e-3)


def test_inputs_that_predict_nothing_are_the_means_of_pieces(made):
    match, counts, methods = made
    old, _ = table(match, counts, 1.0)
    mean = Mean(match).rows(old, TableName.INPUTS)
    assert (methods[False].rows(old, TableName.INPUTS) == mean).all()
    assert not np.allclose(methods[True].rows(old, TableName.INPUTS), mean)


def test_columns_are_made_each_by_itself(made):
    match, counts, methods = made
    old, _ = table(match, counts, 1.0)
    whole = methods[True].rows(old, TableName.INPUTS)
    parts = [methods[True].rows(old[:, part], TableName.INPUTS) for part in (slice(3), slice(3, None))]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)
