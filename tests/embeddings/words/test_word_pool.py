"""Word pools: ragged words against words padded to the longest."""

import padded_words
import pytest
import torch

from tersely.embeddings import WordPool
from tersely.embeddings.words import PoolKind
from tersely.errors import UsageError

WORDS = [b"the", b"a", b"", b" counterrevolutionary", b"\xff\x00", b"", b"x"]


def packed(words):
    lengths = torch.tensor([len(word) for word in words], dtype=torch.int64)
    ids = torch.tensor(list(b"".join(words)), dtype=torch.int64)
    return ids, torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


def made(kind, slots=2, **settings):
    torch.manual_seed(0)
    pool = WordPool(32, slots, kind, local_width=16, heads=2, places=6, **settings).double()
    for part in pool.parameters():
        torch.nn.init.normal_(part, std=0.4)
    return pool


@pytest.mark.parametrize("kind", PoolKind)
@pytest.mark.parametrize("slots", [1, 3])
def test_ragged_words_are_as_padded_ones_and_so_are_gradients(kind, slots):
    pool = made(kind, slots)
    found, wanted = pool(*packed(WORDS)), padded_words.pool(pool, WORDS)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    parts = list(pool.parameters())
    ours = torch.autograd.grad(found.square().sum(), parts)
    theirs = torch.autograd.grad(wanted.square().sum(), parts)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", PoolKind)
def test_a_word_is_the_same_beside_any_others_and_in_any_number_of_bytes(kind):
    pool = made(kind)
    alone = torch.cat([pool(*packed([word])) for word in WORDS])
    many = pool(*packed(WORDS * 70))  # more bytes than there are pairs of byte and place
    assert len(b"".join(WORDS)) * 70 > 256 * 6
    torch.testing.assert_close(many, alone.repeat(70, 1, 1), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["prefix", "query", "mean"])
def test_the_order_of_bytes_counts(kind):
    pool = made(kind)
    one, other = pool(*packed([b"saw", b"was"]))
    assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize("kind", PoolKind)
def test_no_words_are_no_vectors(kind):
    assert made(kind)(*packed([])).shape == (0, 2, 32)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="slots is 0"):
        WordPool(32, 0)
    with pytest.raises(UsageError, match="no pool kind 'sum'"):
        WordPool(32, 1, "sum")
    with pytest.raises(UsageError, match="5 heads"):
        WordPool(32, 1, local_width=16, heads=5)
