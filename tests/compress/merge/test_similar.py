"""Merging of similar positions against loops over one document, and against BERT itself."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tersely.compress.merge.similar import match_similar, merge_encoder
from tersely.errors import UsageError

LENGTHS = [9, 0, 1, 2, 3, 24, 5]


def by_hand(keys, rate):
    """Sets of positions that become one, in order, of a document."""
    length = len(keys)
    go = length - math.ceil((1 - Fraction(rate).limit_denominator(1000)) * length)
    pairs = []
    for a in range(1, length, 2):
        found = [(float(F.cosine_similarity(keys[a], keys[b], dim=0)), -b) for b in range(2, length, 2)]
        if found:
            likeness, b = max(found)
            pairs.append((-likeness, a, -b))
    sets = {position: [position] for position in range(length)}
    for _, a, b in sorted(pairs)[:go]:
        sets[b] += sets.pop(a)
    return [sorted(sets[position]) for position in sorted(sets)]


@pytest.fixture
def documents():
    torch.manual_seed(2)
    values = torch.randn(sum(LENGTHS) + 3, 6, dtype=torch.float64)
    return values, torch.tensor([0, *np.cumsum(LENGTHS)], dtype=torch.int32)


@pytest.mark.parametrize("rate", [0, 0.2, 0.34, 0.5, 0.9])
def test_matching_is_that_of_each_document_by_hand(documents, rate):
    keys, cu_seqlens = documents
    matching = match_similar(keys, cu_seqlens, rate)
    sizes = torch.rand(len(keys)) + 1
    merged, taken = matching.merge(keys, sizes)
    back = matching.unmerge(merged)
    assert not back[sum(LENGTHS) :].any()
    row = 0
    for document, (start, length) in enumerate(zip(cu_seqlens.tolist(), LENGTHS, strict=False)):
        assert matching.cu_seqlens[document] == row
        for places in by_hand(keys[start : start + length], rate):
            at = torch.tensor(places) + start
            weights = sizes[at] / sizes[at].sum()
            torch.testing.assert_close(merged[row], weights.double() @ keys[at], atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(taken[row], sizes[at].sum())
            assert (matching.member[at] == row).all()
            assert torch.equal(back[at], merged[row].expand(len(at), -1))
            row += 1
    assert len(merged) == row == matching.cu_seqlens[-1]


def test_long_documents_are_matched_over_tiles_as_in_one(monkeypatch):
    torch.manual_seed(0)
    keys, cu_seqlens = torch.randn(700, 5), torch.tensor([0, 40, 650, 700])
    whole = match_similar(keys, cu_seqlens, 0.3)
    monkeypatch.setattr("tersely.compress.merge.similar.match._TILE", 7)
    assert torch.equal(match_similar(keys, cu_seqlens, 0.3).member, whole.member)


def test_documents_too_short_to_match_stay_as_they_are():
    keys, cu_seqlens = torch.randn(4, 3), torch.tensor([0, 1, 1, 3])
    assert match_similar(keys, cu_seqlens, 0.5).member.tolist() == [0, 1, 2, 3]
    assert match_similar(keys[:0], cu_seqlens[:1], 0.5).starts.tolist() == [0]


@pytest.fixture(scope="module")
def bert():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False).eval()


@pytest.fixture
def packed():
    torch.manual_seed(1)
    return torch.randint(40, (sum(LENGTHS) + 2,)), torch.tensor([0, *np.cumsum(LENGTHS)], dtype=torch.int32)


@torch.no_grad()
def test_without_merging_it_is_the_model_itself(bert, packed):
    ids, cu_seqlens = packed
    out = merge_encoder(bert, ids, cu_seqlens, {})
    for part, found in zip(ids[:-2].split(LENGTHS), out.unmerged()[:-2].split(LENGTHS), strict=True):
        if len(part):
            wanted = bert(part[None]).last_hidden_state[0]
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("cu_seqlens", [[0], [0, 0]])
def test_documents_without_any_tokens_have_no_states(bert, cu_seqlens):
    empty = torch.zeros(0, dtype=torch.int64)
    out = merge_encoder(bert, empty, torch.tensor(cu_seqlens, dtype=torch.int32), {0: 0.5})
    assert out.states.shape == out.unmerged().shape == (0, 24)
    assert out.cu_seqlens.tolist() == cu_seqlens


def alone(bert, ids, layers):
    """One document through BERT, its attention written out, merged by hand."""
    x, sizes, sets = bert.embeddings(ids[None])[0], torch.ones(len(ids)), [[i] for i in range(len(ids))]
    for number, layer in enumerate(bert.encoder.layer):
        own = layer.attention.self
        q, k, v = (part(x).view(len(x), 2, 12).transpose(0, 1) for part in (own.query, own.key, own.value))
        scores = q @ k.transpose(1, 2) / 12**0.5
        seen = (
            (scores.exp() * sizes) / (scores.exp() * sizes).sum(-1, keepdim=True) @ v
        )  # keys counted by their size
        x = layer.attention.output(seen.transpose(0, 1).flatten(1), x)
        if number in layers:
            joined = by_hand(k.mean(0), layers[number])
            x = torch.stack([(x[g] * sizes[g, None]).sum(0) / sizes[g].sum() for g in joined])
            sets = [[place for i in g for place in sets[i]] for g in joined]
            sizes = torch.stack([sizes[g].sum() for g in joined])
        x = layer.output(layer.intermediate(x), x)
    return x, sets


@torch.no_grad()
def test_merging_in_two_layers_is_as_each_document_alone(bert, packed):
    ids, cu_seqlens = packed
    layers = {0: 0.25, 1: 0.4}
    out = merge_encoder(bert, ids, cu_seqlens, layers)
    back = out.unmerged()
    row = 0
    for start, length in zip(cu_seqlens.tolist(), LENGTHS, strict=False):
        if not length:
            continue
        wanted, sets = alone(bert, ids[start : start + length], layers)
        torch.testing.assert_close(out.states[row : row + len(wanted)], wanted, atol=1e-4, rtol=1e-4)
        for offset, places in enumerate(sets):
            assert (out.member[torch.tensor(places) + start] == row + offset).all()
            assert out.sizes[row + offset] == len(places)
            torch.testing.assert_close(back[start + places[0]], wanted[offset], atol=1e-4, rtol=1e-4)
        row += len(wanted)
    assert row == len(out.states) < sum(LENGTHS) * 0.7
    assert not back[-2:].any()


def test_what_cannot_be_merged_is_refused(bert, packed):
    from transformers import GPT2Config, GPT2Model

    ids, cu_seqlens = packed
    with pytest.raises(UsageError, match="rate of 1"):
        match_similar(torch.zeros(3, 2), torch.tensor([0, 3]), 1)
    with pytest.raises(UsageError, match="layers 0 to 2"):
        merge_encoder(bert, ids, cu_seqlens, {3: 0.1})
    gpt2 = GPT2Model(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=40)).eval()
    with pytest.raises(UsageError, match="no BERT"):
        merge_encoder(gpt2, ids, cu_seqlens, {})
    bert.train()
    with pytest.raises(UsageError, match="training"):
        merge_encoder(bert, ids, cu_seqlens, {})
    bert.eval()
