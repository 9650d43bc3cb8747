"""Mixtures: every share exact at every step, the same folder on all ranks, and states that resume exactly."""

import itertools
import json
import pickle

import numpy as np
import pytest
from folders import first, key, keys, take, write_folder
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tersely.errors import FingerprintError, PackError, UsageError
from tersely.pack import Balance, MixedDataset, PackedDataset, merge_states
from tersely.pack.mixture import next_in_turn

WEIGHTS = [5, 3, 2]


@given(
    weights=st.lists(st.one_of(st.integers(1, 20), st.floats(1e-3, 1e3)), min_size=1, max_size=8),
)
def test_shares_are_exact_but_for_less_than_one_at_every_step(weights):
    shares = [weight / sum(weights) for weight in weights]
    counts = [0] * len(weights)
    bound = 1 - 1 / max(2, 2 * len(weights) - 2) if len(weights) > 1 else 0
    for step in range(1, 400):
        counts[next_in_turn(shares, counts)] += 1
        assert max(abs(c - share * step) for c, share in zip(counts, shares, strict=True)) <= bound + 1e-9


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three folders of rows of 10 tokens: 21, 13 and 4 of them, told apart by their first id."""
    base = tmp_path_factory.mktemp("mixture")
    counts = {"a": 21, "b": 13, "c": 4}
    return [
        write_folder(base / name, [[10 - i] * n], capacity=10) for i, (name, n) in enumerate(counts.items())
    ]


def mixture(folders, rank=0, world_size=1, repeat=True, balance=None):
    parts = [
        PackedDataset(folder, seed=seed, rank=rank, world_size=world_size, balance=balance)
        for seed, folder in enumerate(folders)
    ]
    return MixedDataset(parts, WEIGHTS, repeat=repeat)


def sources(rows):
    """Which folder each row is of: rows of folder 0 have 10 tokens, of folder 1 have 9, and so on."""
    return [10 - len(np.frombuffer(ids, np.uint32)) for ids, _ in rows]


def test_folders_give_their_shares_and_go_through_all_their_rows_again_and_again(folders):
    rows = take(iter(mixture(folders)), 200)
    for step in range(1, 201):
        counts = np.bincount(sources(rows[:step]), minlength=3)
        assert (abs(counts - step * np.array([0.5, 0.3, 0.2])) < 1).all()
    for number, folder in enumerate(folders):
        mine = [row for row, source in zip(rows, sources(rows), strict=True) if source == number]
        dataset = PackedDataset(folder, seed=number)
        expected = []
        for epoch in range(20):
            dataset.set_epoch(epoch)
            expected += keys(dataset)
        assert mine == expected[: len(mine)]
        assert len(mine) > len(dataset)


def test_it_may_end_where_a_folder_does(folders):
    dataset = mixture(folders, repeat=False)
    rows = keys(dataset)
    assert np.bincount(sources(rows)).tolist()[2] == 4
    assert rows == take(iter(mixture(folders)), len(rows))
    dataset.set_epoch(1)
    second = keys(dataset)
    assert len(second) == len(rows)
    assert second != rows


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_rows_are_the_same_with_any_number_of_workers(folders, workers):
    loader = DataLoader(mixture(folders), batch_size=1, num_workers=workers, collate_fn=first)
    rows = iter(loader)
    assert [key(next(rows)) for _ in range(60)] == take(iter(mixture(folders)), 60)


@pytest.mark.parametrize("balance", [None, Balance(window=2)])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_have_rows_of_the_same_folder_and_none_twice(folders, world_size, balance):
    shares = [
        keys(mixture(folders, rank, world_size, repeat=False, balance=balance)) for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    assert all(sources(share) == sources(shares[0]) for share in shares)
    rows = [row for share in shares for row in share]
    counts = np.bincount(sources(rows))
    assert len(rows) - len(set(rows)) <= sum(max(0, n - m) for n, m in zip(counts, (21, 13, 4), strict=True))


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (1, 2)])
def test_resumed_twice_it_gives_the_rows_of_an_uninterrupted_run(folders, workers, rank, world_size):
    def loader():
        dataset = mixture(folders, rank, world_size)
        return StatefulDataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=first)

    expected = take(iter(mixture(folders, rank, world_size)), 90)
    got, state = [], None
    for stop in (17, 40, 33):
        fresh = loader()
        if state:
            fresh.load_state_dict(state)
        got += take(iter(fresh), stop)
        state = pickle.loads(pickle.dumps(fresh.state_dict()))
    assert got == expected


def test_batches_of_several_rows_resume_too(folders):
    def loader():
        return StatefulDataLoader(mixture(folders), batch_size=3, num_workers=2, collate_fn=keys)

    expected = list(itertools.islice(iter(loader()), 12))
    part = loader()
    got = list(itertools.islice(iter(part), 5))
    rest = loader()
    rest.load_state_dict(part.state_dict())
    assert got + list(itertools.islice(iter(rest), 7)) == expected


@pytest.mark.parametrize(("before", "after", "workers"), [(1, 2, 0), (3, 2, 2), (2, 1, 3)])
def test_a_state_of_the_main_process_fits_other_ranks_and_workers(folders, before, after, workers):
    ranks = [mixture(folders, rank, before) for rank in range(before)]
    had = [take(iter(dataset), 9) for dataset in ranks]
    states = [json.loads(json.dumps(dataset.state_dict())) for dataset in ranks]
    rest = []
    for rank in range(after):
        dataset = mixture(folders, rank, after)
        dataset.load_state_dict(states[0])
        loader = DataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=first)
        rest.append(take(iter(loader), 11))
    steps = sources(had[0]) + sources(rest[0])
    assert (abs(np.bincount(steps) - 20 * np.array([0.5, 0.3, 0.2])) < 1).all()
    dealt = [row for share in (had, rest) for step in zip(*share, strict=True) for row in step]
    for number, rows in enumerate((21, 13, 4)):
        mine = [row for row in dealt if sources([row]) == [number]]
        assert mine[:rows] == keys(PackedDataset(folders[number], seed=number))[: len(mine)]


def test_a_state_at_the_end_leads_into_the_next_epoch(folders):
    ended = mixture(folders, repeat=False)
    keys(ended)
    resumed = mixture(folders, repeat=False)
    resumed.load_state_dict(ended.state_dict())
    assert keys(resumed) == []
    ended.set_epoch(1)
    expected = keys(ended)
    late = mixture(folders, repeat=False)
    late.set_epoch(1)
    ended.set_epoch(0)
    keys(ended)
    late.load_state_dict(ended.state_dict())
    assert keys(late) == expected != []


def test_states_are_json_and_of_the_moment(folders):
    dataset = mixture(folders)
    rows = iter(dataset)
    before = json.loads(json.dumps(dataset.state_dict()))
    assert before["counts"] == [0, 0, 0]
    expected = take(rows, 7)
    assert sum(dataset.state_dict()["counts"]) == 7
    dataset.load_state_dict(before)
    assert take(iter(dataset), 7) == expected


def test_what_does_not_fit_is_refused(folders, tmp_path):
    parts = mixture(folders).datasets
    for weights in ([1, 2], [1, 2, 0], [1, 2, -1], [1, 2, float("nan")]):
        with pytest.raises(UsageError, match="weights"):
            MixedDataset(parts, weights)
    with pytest.raises(UsageError, match="different ranks"):
        MixedDataset([parts[0], PackedDataset(folders[1], world_size=2)], [1, 1])
    other = write_folder(tmp_path / "other", [[5]], fingerprint="1")
    with pytest.raises(FingerprintError, match="different tokenizers"):
        MixedDataset([parts[0], PackedDataset(other)], [1, 1])
    empty = write_folder(tmp_path / "empty", [[]])
    with pytest.raises(PackError, match="has no rows"):
        next(iter(MixedDataset([PackedDataset(empty)], [1])))


def test_states_of_other_mixtures_and_of_other_workers_are_refused(folders):
    state = mixture(folders).state_dict()
    with pytest.raises(PackError, match="weights"):
        MixedDataset(mixture(folders).datasets, [1, 1, 1]).load_state_dict(state)
    with pytest.raises(PackError, match="version"):
        mixture(folders).load_state_dict(state | {"version": 9})
    with pytest.raises(PackError, match="another plan"):
        mixture(folders[::-1]).load_state_dict(state)
    inside = state | {"workers": 2}
    with pytest.raises(PackError, match="num_workers"):
        dataset = mixture(folders)
        dataset.load_state_dict(inside)
        next(iter(dataset))
    with pytest.raises(PackError, match="inside a worker of 1 ranks"):
        mixture(folders, 0, 2).load_state_dict(inside)
    with pytest.raises(PackError, match="cannot be merged"):
        merge_states([state])
