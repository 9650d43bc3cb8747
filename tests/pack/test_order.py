"""The order of an epoch: a permutation at any size, well shuffled, and the same wherever one starts to read it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.pack import order
from tersely.pack.balance import Balance
from tersely.pack.order import GivenFirst, Shuffled, ordered
from tersely.pack.position import BalancedFrom, GivenFrom


@pytest.fixture
def ciphered(monkeypatch):
    """Small plans are shuffled as large ones are."""
    monkeypatch.setattr(order, "_SHUFFLED_AS_A_WHOLE", 0)


@pytest.mark.parametrize("rows", [1, 2, 3, 15, 16, 17, 1000, 65536, 65537, 200_000])
def test_every_row_is_there_once(ciphered, rows):
    found = Shuffled(rows, 3, 1).at(np.arange(rows))
    assert np.array_equal(np.sort(found), np.arange(rows))
    one = Shuffled(rows, 3, 1)
    places = [0, rows // 2, rows - 1]
    assert one.at(np.array(places)).tolist() == found[places].tolist()


def test_small_plans_are_shuffled_as_numpy_does():
    expected = np.random.default_rng((3, 1)).permutation(100)
    assert np.array_equal(Shuffled(100, 3, 1).at(np.arange(100)), expected)


def test_seeds_and_epochs_differ(ciphered):
    orders = {tuple(Shuffled(1000, s, e).at(np.arange(1000))) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_every_place_gets_every_part_of_the_plan_equally_often(ciphered):
    rows, draws, parts = 1000, 2000, 10
    counts = np.zeros((4, parts))
    neighbours = 0
    for seed in range(draws):
        found = Shuffled(rows, seed, 0).at(np.array([0, 1, 500, 999]))
        counts[np.arange(4), found * parts // rows] += 1
        neighbours += abs(int(found[1]) - int(found[0])) == 1
    expected = draws / parts
    chi_square = ((counts - expected) ** 2 / expected).sum(axis=1)
    assert (chi_square < 33.7).all()  # 9 degrees of freedom: one in ten thousand is above
    assert neighbours < 20  # 4 are expected


@given(
    rows=st.integers(1, 60),
    base=st.integers(0, 20),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_given_rows_come_first_and_the_others_in_their_order(rows, base, cuts):
    ends = sorted({cut for cut in cuts if base <= cut <= rows})
    runs = list(zip(ends[::2], ends[1::2], strict=False))
    if not runs:
        return
    below = Shuffled(rows, 0, 0)
    before = below.at(np.arange(rows)).tolist()
    given = [place for start, stop in runs for place in range(start, stop)]
    others = [place for place in range(base, rows) if place not in given]
    expected = [before[place] for place in [*range(base), *given, *others]]
    assert GivenFirst(below, base, runs).at(np.arange(rows)).tolist() == expected


@given(
    rows=st.integers(1, 80),
    levels=st.lists(st.tuples(st.integers(0, 80), st.integers(1, 9), st.integers(1, 4)), max_size=3),
    places=st.lists(st.integers(0, 79), max_size=20),
)
def test_balanced_orders_are_permutations_that_leave_what_is_behind(rows, levels, places):
    costs = np.random.default_rng(rows).integers(1, 100, rows)
    made = []
    for base, world_size, window in sorted(levels):
        made.append(BalancedFrom(min(base, rows), world_size, Balance(window=window)))
    found = ordered(rows, (1, 2), made, lambda _, chosen: costs[chosen])
    below = ordered(rows, (1, 2), made[:-1], lambda _, chosen: costs[chosen])
    whole = found.at(np.arange(rows))
    assert np.array_equal(np.sort(whole), np.arange(rows))
    chosen = np.array([place for place in places if place < rows], np.int64)
    assert np.array_equal(found.at(chosen), whole[chosen])
    if made:
        behind = np.arange(made[-1].base)
        assert np.array_equal(whole[behind], below.at(behind))


def test_levels_lie_on_each_other():
    levels = [
        BalancedFrom(0, 4, Balance(window=2)),
        GivenFrom(8, ((12, 16),)),
        BalancedFrom(12, 3, Balance()),
    ]
    found = ordered(50, (0, 0), levels, lambda _, chosen: chosen * 0 + 1)
    assert sorted(found.at(np.arange(50)).tolist()) == list(range(50))
    below = ordered(50, (0, 0), levels[:1], lambda _, chosen: chosen * 0 + 1)
    assert found.at(np.arange(8, 12)).tolist() == below.at(np.arange(12, 16)).tolist()
