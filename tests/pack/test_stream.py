"""The streaming planner: the whole plan's efficiency in bounded memory, and exact resumption."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.errors import PackError, UsageError
from tersely.pack import StreamPlanner, plan

CALLS = st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=10)


def pieces_of(bins):
    return sorted(piece for bin_ in bins for piece in bin_)


@given(calls=CALLS, capacity=st.integers(1, 30), window=st.integers(2, 20))
def test_every_token_comes_out_once_and_bins_hold_their_capacity(calls, capacity, window):
    planner = StreamPlanner(capacity, window)
    bins = [bin_ for lengths in calls for bin_ in planner.add(lengths)] + planner.flush()
    lengths = [n for call in calls for n in call]
    expected = [(d, s, min(s + capacity, n)) for d, n in enumerate(lengths) for s in range(0, n, capacity)]
    assert pieces_of(bins) == expected
    assert all(sum(stop - start for _, start, stop in bin_) <= capacity for bin_ in bins)
    assert planner.waiting() == set()


@given(calls=CALLS, window=st.integers(2, 20))
def test_bins_do_not_depend_on_how_the_stream_is_cut(calls, window):
    whole, parts = StreamPlanner(25, window), StreamPlanner(25, window)
    assert whole.add([n for call in calls for n in call]) == [b for call in calls for b in parts.add(call)]
    assert whole.flush() == parts.flush()


@given(calls=CALLS, window=st.integers(2, 20), stop=st.integers(0, 10))
def test_a_resumed_planner_goes_on_exactly(calls, window, stop):
    straight = StreamPlanner(25, window)
    expected = [straight.add(call) for call in calls]
    first = StreamPlanner(25, window)
    got = [first.add(call) for call in calls[:stop]]
    second = StreamPlanner(25, window)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    got += [second.add(call) for call in calls[stop:]]
    assert got == expected
    assert second.flush() == straight.flush()
    assert second.efficiency == straight.efficiency


@pytest.mark.parametrize("kind", ["lognormal", "uniform"])
@pytest.mark.parametrize("capacity", [2048, 8192, 32_768])
def test_it_loses_at_most_one_percent_against_the_global_plan(kind, capacity):
    rng = np.random.default_rng(0)
    if kind == "lognormal":
        lengths = np.clip(np.exp(rng.normal(np.log(400), 1.2, 40_000)), 1, capacity).astype(int)
    else:
        lengths = rng.integers(1, capacity + 1, 40_000)
    planner = StreamPlanner(capacity)
    waiting = []
    for start in range(0, len(lengths), 1000):
        planner.add(lengths[start : start + 1000])
        waiting.append(len(planner.state_dict()["waiting"]))
    planner.flush()
    assert plan(lengths, capacity).efficiency - planner.efficiency < 0.01
    assert max(waiting) <= planner.window


@pytest.mark.parametrize(("overflow", "kept"), [("truncate", [(0, 0, 8), (1, 0, 3)]), ("drop", [(1, 0, 3)])])
def test_overflow_is_as_in_plans(overflow, kept):
    planner = StreamPlanner(8, overflow=overflow)
    planner.add([20, 3])
    assert planner.lost_tokens == 23 - sum(stop - start for _, start, stop in kept)
    assert planner.waiting() == {document for document, _, _ in kept}
    assert pieces_of(planner.flush()) == kept


def test_states_of_other_settings_are_refused():
    with pytest.raises(PackError, match="capacity=8"):
        StreamPlanner(9).load_state_dict(StreamPlanner(8).state_dict())


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="window"):
        StreamPlanner(8, window=1)
    with pytest.raises(UsageError, match="capacity"):
        StreamPlanner(0)
    with pytest.raises(UsageError, match="capacity"):
        StreamPlanner(2**30)
    planner = StreamPlanner(8)
    for lengths in ([3, -1], [1.5]):
        with pytest.raises(UsageError):
            planner.add(lengths)
    assert planner.state_dict() == StreamPlanner(8).state_dict()
