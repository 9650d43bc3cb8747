"""Embeddings that rename themselves in each document: what may change when ids are permuted, and what the vectors are."""

import pytest
import torch

from tersely.embeddings import Lexinvariant
from tersely.errors import UsageError
from tersely.kernels import Boundaries
from tersely.layers import Stack

VOCABULARY, WIDTH = 11, 24
CU_SEQLENS = torch.tensor([0, 9, 9, 10, 40])
IDS = torch.randint(0, VOCABULARY, (40,), generator=torch.Generator().manual_seed(1))


def losses(ids, embedding, stack, documents=None):
    """Of a small model, for each token after the first of its document."""
    x = embedding(ids, CU_SEQLENS, documents) * WIDTH**0.5
    places = torch.arange(len(ids)) - torch.repeat_interleave(CU_SEQLENS[:-1], CU_SEQLENS.diff())
    hidden = stack(x, Boundaries.from_cu_seqlens(CU_SEQLENS, len(ids), causal=True), places)
    likely = embedding.logits(hidden, CU_SEQLENS, documents).log_softmax(-1)
    ranks = embedding.ranks(ids, CU_SEQLENS)
    return -likely[:-1].gather(1, ranks[1:, None])[places[1:] > 0]


@pytest.fixture
def model():
    torch.manual_seed(0)
    stack = Stack(WIDTH, 2, 2)
    for part in stack.parameters():
        torch.nn.init.normal_(part, std=0.3)
    return Lexinvariant(VOCABULARY, WIDTH, seed=7), stack


def test_renaming_the_symbols_leaves_the_loss_what_it_is(model):
    names = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(names[IDS], IDS)
    assert torch.equal(losses(IDS, *model), losses(names[IDS], *model))
    changed = IDS.clone()
    changed[12] = (changed[12] + 1) % VOCABULARY
    assert not torch.equal(losses(IDS, *model), losses(changed, *model))


def test_ranks_count_new_symbols_of_the_document():
    expected = []
    for start, end in zip(CU_SEQLENS[:-1], CU_SEQLENS[1:], strict=True):
        seen = []
        for symbol in IDS[start:end].tolist():
            seen += [symbol] if symbol not in seen else []
            expected.append(seen.index(symbol))
    assert Lexinvariant(VOCABULARY, WIDTH).ranks(IDS, CU_SEQLENS).tolist() == expected


def test_a_symbol_has_one_vector_in_a_document_and_another_in_the_next(model):
    embedding, _ = model
    vectors = embedding(torch.tensor([3, 4, 3, 3, 4]), torch.tensor([0, 3, 5]))
    assert torch.equal(vectors[0], vectors[2])
    assert len(torch.unique(vectors[[0, 1, 3, 4]], dim=0)) == 4
    again = embedding(torch.tensor([3, 4]), torch.tensor([0, 2]), torch.tensor([1]))
    assert torch.equal(again, vectors[3:])
    other = Lexinvariant(VOCABULARY, WIDTH, seed=8)(torch.tensor([3]), torch.tensor([0, 1]))
    assert not torch.equal(other[0], vectors[0])


def test_seeds_of_all_64_bits_are_taken():
    ids, bounds = torch.tensor([3, 4]), torch.tensor([0, 2])
    seeds = (0, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 2)
    drawn = [Lexinvariant(VOCABULARY, WIDTH, seed)(ids, bounds) for seed in seeds]
    assert len(torch.unique(torch.stack(drawn), dim=0)) == len(seeds)


def test_logits_are_products_with_the_vectors_that_embed(model):
    embedding, _ = model
    hidden = torch.randn(40, WIDTH)
    found = embedding.logits(hidden, CU_SEQLENS)
    assert found.shape == (40, VOCABULARY)
    own = found.gather(1, embedding.ranks(IDS, CU_SEQLENS)[:, None])[:, 0]
    torch.testing.assert_close(own, (hidden * embedding(IDS, CU_SEQLENS)).sum(1))


@pytest.mark.parametrize("width", [63, 64])
def test_vectors_are_normal_and_independent(width):
    embedding = Lexinvariant(200, width, seed=3)
    count = 40
    ids, bounds = torch.arange(200).repeat(count), torch.arange(count + 1) * 200
    drawn = embedding(ids, bounds).double() * width**0.5
    normal = torch.distributions.Normal(0.0, 1.0)
    uniform = normal.cdf(drawn.flatten()).sort().values
    distance = (uniform - torch.linspace(0, 1, len(uniform), dtype=torch.float64)).abs().max()
    assert distance < 1.63 / len(uniform) ** 0.5  # Kolmogorov and Smirnov, one in a hundred
    products = drawn.T @ drawn / len(drawn) - torch.eye(width, dtype=torch.float64)
    assert products.abs().max() < 5 / len(drawn) ** 0.5
    by_document = drawn.view(count, -1)
    products = by_document @ by_document.T / by_document.shape[1] - torch.eye(count, dtype=torch.float64)
    assert products.abs().max() < 5 / by_document.shape[1] ** 0.5


def test_what_cannot_be_is_refused(model):
    with pytest.raises(UsageError, match="width 0"):
        Lexinvariant(5, 0)
    with pytest.raises(UsageError, match="one number for each of 4"):
        model[0](IDS, CU_SEQLENS, torch.tensor([1]))
