"""Policies that are rules, and the exact form of any, against loops over single documents."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from tersely.compress.merge.policies import (
    Choice,
    FixedPolicy,
    RandomPolicy,
    SpacePolicy,
    StridePolicy,
    exact_rate,
)
from tersely.compress.merge.rate import ExactRate
from tersely.errors import UsageError

TEXTS = [b"The cat, and the d\xc3\xa9j\xc3\xa0 vu...  dog", b"", b"x", b" \n\n ab", b"caf\xc3\xa9 99 times"]


def packed(texts, slack=0, first_byte=0):
    lengths = torch.tensor([len(text) for text in texts])
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    ids = torch.tensor(list(b"".join(texts) + b"\n" * slack)) + first_byte
    return torch.zeros(len(ids), 2), cu_seqlens, ids


def kept(policy, texts, **settings):
    hidden, cu_seqlens, ids = packed(texts, **settings)
    keep = policy(hidden, cu_seqlens, ids).keep
    assert not keep[cu_seqlens[-1] :].any()
    return [
        keep[a:b].tolist() for a, b in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True)
    ]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.3, 1 / 3, 0.07])
def test_the_exact_form_keeps_the_best_of_each_document(share):
    torch.manual_seed(1)
    lengths = [5, 0, 1, 17, 3, 40]
    cu_seqlens = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    score = torch.randint(-4, 4, (sum(lengths) + 3,)).float()  # with ties
    choice = exact_rate(Choice(torch.ones(len(score)).bool(), score), cu_seqlens, share)
    wanted = []
    for part in score[:-3].split(lengths):
        order = sorted(range(len(part)), key=lambda i: (i > 0, -float(part[i]), i))
        best = order[: math.ceil(Fraction(share).limit_denominator(1000) * len(part))]
        wanted += [i in best for i in range(len(part))]
    assert choice.keep.tolist() == wanted + [False] * 3
    again, loss = ExactRate(share)(choice, cu_seqlens)
    assert torch.equal(again.keep, choice.keep)
    assert loss == 0


def test_shares_that_keep_nothing_are_refused():
    for share in (0, -1, 1.5):
        with pytest.raises(UsageError, match="share"):
            StridePolicy(share)


def test_a_stride_keeps_every_kth_position():
    assert kept(StridePolicy(1 / 3), [b"abcdefgh", b"", b"ab"], slack=4) == [
        [i % 3 == 0 for i in range(8)],
        [],
        [True, False],
    ]


@pytest.mark.parametrize("share", [0.4, 0.77, 1 / 7, 1])
def test_a_stride_is_its_own_exact_form(share):
    hidden, cu_seqlens, ids = packed([b"a" * n for n in range(30)])
    choice = StridePolicy(share)(hidden, cu_seqlens, ids)
    assert torch.equal(choice.keep, exact_rate(choice, cu_seqlens, share).keep)


def test_a_random_choice_is_of_the_text_and_the_seed_alone():
    text = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    [long] = kept(RandomPolicy(0.3, seed=5), [text])
    assert abs(np.mean(long) - 0.3) < 0.01
    assert kept(RandomPolicy(0.3, seed=5), [b"other", text, b""], slack=2)[1] == long
    [other] = kept(RandomPolicy(0.3, seed=6), [text])
    assert abs(np.mean(np.array(other) & np.array(long)) - 0.09) < 0.01
    [same] = kept(RandomPolicy(0.3, seed=5), [b"a" * 20_000])  # nothing but positions differs
    assert abs(np.mean(same) - 0.3) < 0.01
    assert abs(np.mean(np.array(same[1:]) & np.array(same[:-1])) - 0.09) < 0.01


def test_the_fixed_control_keeps_the_beginning_of_each_word():
    found = kept(FixedPolicy(0.5, first_byte=3), [b"the quick  a", b"", b"abc"], first_byte=3, slack=2)
    assert found == [[c == "1" for c in "110011100010"[:10] + "11"], [], [True, True, False]]
    hidden, cu_seqlens, ids = packed([b"abcd efgh ijk"])
    choice = FixedPolicy(0.5)(hidden, cu_seqlens, ids)
    exact = exact_rate(choice, cu_seqlens, 0.5).keep
    assert [int(part.sum()) for part in exact.split([5, 5, 3])] == [3, 2, 2]


def test_the_space_rule_is_that_of_the_words_of_spacebyte():
    from tersely.tokenize.words.space import mark

    data = np.frombuffer(b"".join(TEXTS), np.uint8)
    flags = np.zeros(len(data), np.uint8)
    offsets = np.cumsum([0, *map(len, TEXTS)])
    mark(data, offsets[:-1] if offsets[-2] == len(data) else offsets, flags)
    for first_byte in (0, 3):
        found = kept(SpacePolicy(first_byte), TEXTS, first_byte=first_byte, slack=1)
        assert [keep for text in found for keep in text] == flags.astype(bool).tolist()
