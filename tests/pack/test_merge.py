"""States of all ranks and workers as one, which any number of ranks and workers go on from."""

import itertools
import json
import pickle
from collections import Counter

import pytest
from folders import key, keys, some_lengths, take, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from torchdata.stateful_dataloader import StatefulDataLoader

from tersely.errors import PackError
from tersely.pack import Balance, PackedDataset, merge_states
from tersely.pack.position import Position


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    shards = [some_lengths(150, seed) for seed in range(3)]
    return write_folder(tmp_path_factory.mktemp("merge") / "out", shards, capacity=100)


def loaders(folder, world_size, workers, batch, state=None, **options):
    made = []
    for rank in range(world_size):
        dataset = PackedDataset(folder, rank=rank, world_size=world_size, **options)
        if state:
            dataset.load_state_dict(state)
        made.append(StatefulDataLoader(dataset, batch_size=batch, num_workers=workers, collate_fn=list))
    return made


def run(loader, batches=None):
    """The rows of some batches, and the state after them."""
    found = [key(row) for rows in itertools.islice(iter(loader), batches) for row in rows]
    return found, pickle.loads(pickle.dumps(loader.state_dict()))


@pytest.mark.parametrize("balance", [None, Balance(window=3)])
@pytest.mark.parametrize(
    "stages",
    [
        [(1, 2, 3), (1, 3, 2), (1, 0, 1)],
        [(2, 2, 1), (1, 1, 4), (2, 0, 3)],
        [(1, 3, 2), (2, 1, 1), (1, 2, 3)],
    ],
    ids=str,
)
def test_no_row_is_lost_or_comes_again_as_ranks_and_workers_change_twice(folder, stages, balance):
    rows, got, state = Counter(keys(PackedDataset(folder))), Counter(), None
    for stage, (world_size, workers, batch) in enumerate(stages):
        states = []
        for loader in loaders(folder, world_size, workers, batch, state, balance=balance):
            found, left = run(loader, 5 if stage < 2 else None)
            got.update(found)
            states.append(left)
        assert stage == 2 or (got - rows).total() == 0
        state = json.loads(json.dumps(merge_states(states)))
    assert got.keys() == rows.keys()
    assert (got - rows).total() < stages[-1][0]


def test_rows_that_come_next_are_in_the_order_they_had(folder):
    whole = keys(PackedDataset(folder))
    (loader,) = loaders(folder, 1, 2, 3)
    found, state = run(loader, 3)
    resumed = PackedDataset(folder)
    resumed.load_state_dict(merge_states([state]))
    assert keys(resumed) == [row for row in whole if row not in found]


def test_the_same_ranks_and_workers_keep_balanced_steps(folder):
    balance = Balance(window=3)
    datasets = [PackedDataset(folder, rank=rank, world_size=3, balance=balance) for rank in range(3)]
    for dataset in datasets:
        take(iter(dataset), 5)
    state = merge_states([dataset.state_dict() for dataset in datasets])
    assert state["levels"] == datasets[0].state_dict()["levels"]
    for dataset in datasets:
        resumed = PackedDataset(folder, rank=dataset.rank, world_size=3, balance=balance)
        resumed.load_state_dict(state)
        assert (
            keys(resumed) == keys(PackedDataset(folder, rank=dataset.rank, world_size=3, balance=balance))[5:]
        )


@settings(max_examples=200)
@given(data=st.data())
def test_what_is_behind_is_what_each_reader_has_given(data):
    """Against the rows counted one by one, with ranks and workers unequally far, over two changes."""
    rows = data.draw(st.integers(0, 40))
    order = list(range(rows))
    state = None
    for _ in range(2):
        world_size, workers = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
        merged = state or {"version": 2, "plan": "p", "seed": 0, **Position(0).to_json()}
        start = Position.from_json(merged)
        base, states, behind = start.base, [], set(range(start.base))
        for rank, worker in itertools.product(range(world_size), range(workers)):
            done = data.draw(st.integers(0, 4))
            places = [base + (i * workers + worker) * world_size + rank for i in range(done)]
            behind |= {place for place in places if place < rows}
            position = Position(0, base, worker, workers, 0, start.levels).after(done, world_size)
            states.append(
                merged | {"rows": rows, "rank": rank, "world_size": world_size} | position.to_json()
            )
        state = merge_states({"nested": [states]})
        expected = [order[p] for p in range(rows) if p not in behind]
        new = Position.from_json(state)
        if new.levels != start.levels:
            level = new.levels[-1]
            given = [place for span in level.given for place in range(*span)]
            others = [place for place in range(level.base, rows) if place not in given]
            order = [order[place] for place in [*range(level.base), *given, *others]]
        assert order[new.base :] == expected


def test_a_state_at_the_end_of_an_epoch_leads_into_the_next(folder):
    states = [run(loader)[1] for loader in loaders(folder, 2, 2, 2)]
    resumed = PackedDataset(folder)
    resumed.load_state_dict(merge_states(states))
    assert keys(resumed) == []
    fresh = PackedDataset(folder)
    fresh.set_epoch(1)
    resumed.set_epoch(1)
    assert keys(resumed) == keys(fresh)


def test_states_that_do_not_belong_together_are_refused(folder):
    states = [state for loader in loaders(folder, 2, 2, 1) for state in _worker_states(run(loader, 3)[1])]
    merge_states(states)
    with pytest.raises(PackError, match="of rank 1 there are states of 1 of 2 workers"):
        merge_states(states[:3])
    with pytest.raises(PackError, match="of rank 1 there are states of 0 of 1 workers"):
        merge_states(states[:2])
    with pytest.raises(PackError, match="two states of worker 0 of rank 0"):
        merge_states([*states, states[0]])
    with pytest.raises(PackError, match="differ in epoch"):
        merge_states([*states[:3], states[3] | {"epoch": 1}])
    with pytest.raises(PackError, match="not of the run"):
        merge_states([*states[:3], states[3] | {"base": 2}])
    with pytest.raises(PackError, match="no state"):
        merge_states([{"model": 1}])


def _worker_states(state):
    return [worker["dataset_state"] for worker in state["_snapshot"]["_worker_snapshots"].values()]


def test_an_old_snapshot_is_refused(folder):
    loader = StatefulDataLoader(
        PackedDataset(folder), batch_size=1, num_workers=2, collate_fn=list, snapshot_every_n_steps=3
    )
    with pytest.raises(PackError, match="snapshot_every_n_steps=1"):
        merge_states([run(loader, 4)[1]])
