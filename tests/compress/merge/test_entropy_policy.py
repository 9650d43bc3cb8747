"""The entropy policy against counting by hand."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from tersely.compress.merge.policies import EntropyPolicy
from tersely.errors import UsageError

WORDS = ["the", "cat", "caught", "a", "bird", "d\u00e9j\u00e0", "vu", "then", "that"]


@pytest.fixture(scope="module")
def texts():
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, 12)) for _ in range(40)] + [""]


def by_hand(texts):
    """Entropy in bits after each pair of symbols, by dictionaries."""
    longer, shorter, alone = defaultdict(Counter), defaultdict(Counter), Counter()
    for text in texts:
        symbols = [256, 256, *text.encode(), 256]
        for a, b, c in zip(symbols, symbols[1:], symbols[2:], strict=False):
            longer[a, b][c] += 1
            shorter[b][c] += 1
            alone[c] += 1
    total = sum(alone.values())

    def blend(counts, lean):
        kinds = max(len(counts), 1)
        return [(counts[c] + kinds * lean[c]) / (sum(counts.values()) + kinds) for c in range(257)]

    unigram = [(alone[c] + 1) / (total + 257) for c in range(257)]

    def entropy(a, b):
        p = blend(longer[a, b], blend(shorter[b], unigram))
        return -sum(q * math.log2(q) for q in p)

    return entropy


def shown(policy, texts):
    documents = [torch.tensor([256, *text.encode(), 256]) for text in texts]
    cu_seqlens = torch.tensor([0, *np.cumsum([len(d) for d in documents])], dtype=torch.int32)
    choice = policy(torch.zeros(int(cu_seqlens[-1]), 1), cu_seqlens, torch.cat(documents))
    return documents, choice, cu_seqlens


def test_scores_are_the_entropies_that_were_counted(texts):
    policy = EntropyPolicy().fit(texts, 0.3)
    entropy = by_hand(texts)
    [document], choice, _ = shown(policy, ["the catz"])
    ids = [256, 256, *document.tolist()]
    wanted = [entropy(a, b) for a, b in zip(ids[:-2], ids[1:-1], strict=True)]
    assert np.allclose(choice.score, wanted, atol=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_threshold_gives_the_share_on_what_it_was_fitted_to(texts, share):
    policy = EntropyPolicy().fit(texts, share)
    _, choice, cu_seqlens = shown(policy, texts)
    assert choice.keep[cu_seqlens[:-1].long()].all()
    kept = choice.keep.float().mean().item()
    assert share - 0.06 < kept <= share + 1e-3


def test_a_model_keeps_what_was_fitted(texts, tmp_path):
    from tersely.compress import MergingLM, MergingLMConfig

    small = dict(
        width=8, heads=1, main_width=8, main_heads=1, encode_layers=1, main_layers=1, decode_layers=1
    )
    model = MergingLM(MergingLMConfig(policy="entropy", **small))
    ids, cu_seqlens = torch.tensor([256, *b"the cat", 256]), torch.tensor([0, 9], dtype=torch.int32)
    with pytest.raises(UsageError, match="fit"):
        model(ids, cu_seqlens)
    model.body.policy.fit(texts, 0.4)
    before = model(ids, cu_seqlens)
    model.save_pretrained(tmp_path)
    after = MergingLM.from_pretrained(tmp_path)(ids, cu_seqlens)
    assert torch.equal(before.keep, after.keep)
    torch.testing.assert_close(before.logits, after.logits)
    rounded = model.to(torch.bfloat16)(ids, cu_seqlens)
    assert torch.equal(before.keep, rounded.keep)


def test_no_texts_are_refused():
    with pytest.raises(UsageError, match="no texts"):
        EntropyPolicy().fit([], 0.3)
