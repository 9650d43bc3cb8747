"""Balanced steps: ranks with equal work, every row once, and states that stay exact."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from folders import keys, some_lengths, take, write_folder
from hypothesis import given
from hypothesis import strategies as st

from tersely.errors import PackError, UsageError
from tersely.pack import Balance, PackedDataset, imbalance
from tersely.pack.balance import arrange


@given(
    world_size=st.integers(1, 6),
    costs=st.lists(st.integers(1, 1000), min_size=0, max_size=5),
    seed=st.integers(0, 9),
)
def test_every_row_of_a_window_is_dealt_once_to_steps_of_neighbours(world_size, costs, seed):
    costs = np.array(costs * world_size, np.int64)
    dealt = arrange(costs, world_size, np.random.default_rng(seed))
    assert dealt.shape == (len(costs) // world_size, world_size)
    assert sorted(dealt.reshape(-1).tolist()) == list(range(len(costs)))
    by_cost = sorted(sorted(step) for step in costs[dealt].tolist())
    assert list(itertools.chain(*by_cost)) == sorted(costs.tolist())


def test_sums_of_ranks_are_as_close_as_those_of_the_best_deal():
    steps = [(9, 8), (7, 5), (4, 4), (3, 1)]
    ways = itertools.product(*(((a, b), (b, a)) for a, b in steps))
    best = min(max(map(sum, zip(*way, strict=True))) for way in ways)
    costs = np.array([9, 8, 7, 5, 4, 4, 3, 1])
    assert costs[arrange(costs, 2, np.random.default_rng(0))].sum(axis=0).max() == best


def test_imbalance_is_the_time_of_the_slowest_against_that_of_equals():
    assert imbalance(np.array([[1, 3], [4, 4]])) == pytest.approx(7 / 6)
    assert imbalance(np.array([[2, 2]])) == imbalance(np.empty((0, 2))) == 1


def test_costs_are_those_of_the_formula():
    tokens, squares = np.array([10], np.int32), np.array([10 * 10])
    layer = 24 * 64**2 * 10 + 4 * 64 * (10 * 10 / 2)
    assert Balance(hidden_size=64).costs(tokens, squares)[0] * 2 * 64 == layer
    for wrong in (dict(hidden_size=0), dict(window=0)):
        with pytest.raises(UsageError, match="outside"):
            Balance(**wrong)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    shards = [some_lengths(150, seed) for seed in range(3)]
    return write_folder(tmp_path_factory.mktemp("balance") / "out", shards, capacity=256)


def dealt(folder, world_size, balance, state=None, **options):
    """What the ranks have at each step: a list of steps of rows."""
    shares = []
    for rank in range(world_size):
        dataset = PackedDataset(folder, rank=rank, world_size=world_size, balance=balance, **options)
        if state:
            dataset.load_state_dict(state)
        shares.append(keys(dataset))
    return list(zip(*shares, strict=True))


@pytest.mark.parametrize("world_size", [1, 3, 4])
def test_ranks_have_equally_many_rows_and_together_all(folder, world_size):
    steps = dealt(folder, world_size, Balance(hidden_size=1, window=5))
    rows = Counter(keys(PackedDataset(folder)))
    got = Counter(itertools.chain(*steps))
    assert got.keys() == rows.keys()
    assert (got - rows).total() < world_size


def test_ranks_wait_less_and_windows_keep_their_rows(folder):
    balance = Balance(hidden_size=1, window=5)
    plain = PackedDataset(folder, world_size=4, capacity=300)
    balanced = PackedDataset(folder, world_size=4, capacity=300, balance=balance)
    before, after = plain.costs(balance), balanced.costs(balance)
    assert imbalance(after) - 1 < (imbalance(before) - 1) / 2
    for start in range(0, len(before) - 1, 5):
        window = slice(4 * start, min(4 * (start + 5), len(plain.rows) // 4 * 4))
        assert sorted(before.reshape(-1)[window]) == sorted(after.reshape(-1)[window])


def test_costs_are_those_of_the_rows_that_are_given(folder):
    balance = Balance(hidden_size=2, window=3)
    found = PackedDataset(folder, world_size=2, balance=balance).costs(balance)
    for rank in range(2):
        rows = list(PackedDataset(folder, rank=rank, world_size=2, balance=balance))
        lengths = [row["seq_lengths"].astype(np.int64) for row in rows]
        assert found[:, rank].tolist() == [24 * n.sum() + (n * n).sum() for n in lengths]


def test_epochs_and_seeds_differ_and_repeat(folder):
    balance = Balance(window=3)
    dataset = PackedDataset(folder, world_size=2, balance=balance)
    one = keys(dataset)
    assert keys(dataset) == one
    dataset.set_epoch(1)
    assert keys(dataset) != one
    assert keys(PackedDataset(folder, world_size=2, balance=balance, seed=1)) != one


def test_resumed_twice_it_gives_the_rows_of_an_uninterrupted_run(folder):
    options = dict(world_size=3, rank=1, balance=Balance(window=4))
    expected = keys(PackedDataset(folder, **options))
    got, state = [], None
    for stop in (3, 6, None):
        dataset = PackedDataset(folder, **options)
        if state:
            dataset.load_state_dict(json.loads(json.dumps(state)))
        rows = iter(dataset)
        got += take(rows, stop) if stop else keys(rows)
        state = dataset.state_dict()
        assert json.loads(json.dumps(state)) == state
    assert got == expected


@pytest.mark.parametrize("sizes", [(4, 3, 5), (2, 2, 4), (5, 1, 5)])
def test_with_other_ranks_no_row_is_lost_and_the_rest_is_balanced_again(folder, sizes):
    balance = Balance(hidden_size=1, window=4)
    rows, got, state = Counter(keys(PackedDataset(folder, capacity=128))), Counter(), None
    for number, world_size in enumerate(sizes):
        datasets = [
            PackedDataset(folder, capacity=128, rank=rank, world_size=world_size, balance=balance)
            for rank in range(world_size)
        ]
        for dataset in datasets:
            if state:
                dataset.load_state_dict(state)
            iterator = iter(dataset)
            got.update(take(iterator, 5) if number < 2 else keys(iterator))
        state = json.loads(json.dumps(datasets[0].state_dict()))
        levels = [level["world_size"] for level in state["levels"]]
        assert levels == [size for size, _ in itertools.groupby(sizes[: number + 1])]
    assert got.keys() == rows.keys()
    assert (got - rows).total() < sizes[-1]


def test_a_state_goes_on_without_balance_in_the_order_it_had(folder):
    balanced = PackedDataset(folder, world_size=2, balance=Balance())
    expected = list(itertools.chain(*dealt(folder, 2, Balance())))
    take(iter(balanced), 3)
    rest = PackedDataset(folder)
    rest.load_state_dict(balanced.state_dict())
    bins = len(rest.rows)
    assert keys(rest) == expected[6:bins]


def test_levels_that_make_no_sense_are_refused(folder):
    state = PackedDataset(folder, balance=Balance()).state_dict()
    for level in (3, {}, {"base": 0, "given": [[3, 1]]}, state["levels"][0] | {"window": 0}):
        with pytest.raises(PackError, match="damaged"):
            PackedDataset(folder).load_state_dict(state | {"levels": [level]})
    for name, value in (("base", -1), ("worker", 1), ("epoch", "x")):
        with pytest.raises(PackError, match="damaged"):
            PackedDataset(folder).load_state_dict(state | {name: value})
