"""Prompts that begin alike stand in a row once, and every token of every prompt is where its path says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.errors import PackError
from tersely.pack.inference.prefixes import SHORTEST, families
from tersely.pack.inference.rows import Row, plan_rows

LETTERS = st.lists(st.integers(0, 2), min_size=1, max_size=12)
PROMPTS = st.lists(
    st.lists(LETTERS, min_size=1, max_size=4).map(lambda parts: [x for part in parts for x in part * 5]),
    min_size=1,
    max_size=25,
)


def arrays(prompts):
    return [np.array(prompt, np.int64) for prompt in prompts]


def check(rows, prompts):
    """Each prompt once, and its tokens where its path says."""
    seen = []
    for row in rows:
        ids = np.concatenate([branch.ids[branch.shared :] for branch in row.branches])
        assert len(ids) == row.tokens
        for number, branch in enumerate(row.branches):
            for prompt in branch.prompts:
                seen.append(prompt)
                places = row.places(number)
                assert (np.diff(places) > 0).all()
                assert ids[places].tolist() == list(prompts[prompt])
                assert places[-1] == row.last[number]
    assert sorted(seen) == list(range(len(prompts)))


@given(PROMPTS, st.integers(1, 200))
def test_every_token_of_every_prompt_is_where_its_path_says(prompts, budget):
    check(plan_rows(arrays(prompts), budget), prompts)


@given(PROMPTS, st.integers(1, 200))
def test_rows_keep_to_the_budget_but_for_prompts_that_are_longer(prompts, budget):
    for row in plan_rows(arrays(prompts), budget):
        assert row.tokens <= budget or len(row.branches) == 1


@given(PROMPTS)
def test_nothing_is_computed_twice_that_is_shared_by_enough(prompts):
    rows = plan_rows(arrays(prompts), 10**6)
    unique = {tuple(prompt) for prompt in prompts}
    trie = {prompt[:n] for prompt in unique for n in range(1, len(prompt) + 1)}
    computed = sum(row.tokens for row in rows)
    assert len(trie) <= computed <= len(trie) + SHORTEST * (len(unique) - 1)


def test_short_beginnings_are_not_shared():
    a, b = [1] * (SHORTEST - 1) + [2], [1] * (SHORTEST - 1) + [3]
    assert [len(family) for family in families(arrays([a, b]))] == [1, 1]
    assert [len(family) for family in families(arrays([[1, *a], [1, *b]]))] == [2]


def test_equal_prompts_are_computed_once_however_short():
    [row] = plan_rows(arrays([[5], [5], [5]]), 100)
    assert row.tokens == 1
    assert row.branches[0].prompts == (0, 1, 2)


def test_without_sharing_every_prompt_is_computed():
    prompts = [[1] * 50, [1] * 50, [1] * 60]
    rows = plan_rows(arrays(prompts), 1000, share=False)
    check(rows, prompts)
    assert sum(row.tokens for row in rows) == 160


def test_prompts_that_change_the_positions_of_others_are_alone():
    rows = plan_rows(arrays([[1] * 9, [2] * 8, [3] * 12]), 1000, longest_together=8)
    assert sorted(tuple(b.prompts[0] for b in row.branches) for row in rows) == [(0,), (1,), (2,)]
    check(rows, [[1] * 9, [2] * 8, [3] * 12])


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(PackError, match="token_budget is 0"):
        plan_rows(arrays([[1]]), 0)


def test_positions_go_on_where_the_shared_beginning_ends():
    head = list(range(2, 32))
    [row] = plan_rows(arrays([[*head, 7], [*head, 8, 9]]), 100)
    assert isinstance(row, Row)
    assert row.position_ids("cpu").tolist() == [[*range(31), 30, 31]]
