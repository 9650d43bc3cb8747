"""Boundaries: the same pairs as a mask filled in pair by pair, from both sides, without a look at the values."""

import pytest
import torch
from dense import cu_seqlens, document_mask
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.errors import KernelError
from tersely.kernels import Boundaries

LENGTHS = [[], [0], [1], [5], [3, 2], [0, 4, 0, 0, 1, 7, 0], [127, 1, 129, 128]]


def sides(bounds):
    """The mask that the query's intervals say, and that the key's say."""
    query = torch.arange(len(bounds.key_start))[:, None]
    key = torch.arange(len(bounds.query_start))[None]
    return (
        (key >= bounds.key_start[:, None]) & (key < bounds.key_stop[:, None]),
        (query >= bounds.query_start) & (query < bounds.query_stop),
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("slack", [0, 3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [(-1, -1), (2, -1), (-1, 1), (2, 3), (0, 0)])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_both_sides_say_what_the_documents_say(lengths, window, causal, slack, dtype):
    tokens = sum(lengths) + slack
    bounds = Boundaries.from_cu_seqlens(
        cu_seqlens(lengths, dtype=dtype), tokens, causal=causal, window=window
    )
    expected = document_mask(lengths, lengths, tokens, tokens, causal, window)
    for side in (*sides(bounds), bounds.visible()):
        assert torch.equal(side, expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cross_attention_ends_at_the_bottom_right_corner(data):
    documents = data.draw(st.integers(0, 5))
    length = st.integers(0, 6)
    queries = data.draw(st.lists(length, min_size=documents, max_size=documents))
    keys = data.draw(st.lists(length, min_size=documents, max_size=documents))
    causal, window = data.draw(st.booleans()), data.draw(st.tuples(st.integers(-1, 3), st.integers(-1, 3)))
    slack_q, slack_k = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
    bounds = Boundaries.from_cu_seqlens(
        cu_seqlens(queries),
        sum(queries) + slack_q,
        cu_seqlens(keys),
        sum(keys) + slack_k,
        causal=causal,
        window=window,
    )
    expected = document_mask(queries, keys, sum(queries) + slack_q, sum(keys) + slack_k, causal, window)
    for side in sides(bounds):
        assert torch.equal(side, expected)
    for vector in (bounds.key_start, bounds.key_stop, bounds.query_start, bounds.query_stop):
        assert bool((vector.diff() >= 0).all())


@pytest.mark.parametrize("lengths", [lengths for lengths in LENGTHS if sum(lengths)])
def test_positions_that_start_again_are_documents(lengths):
    positions = torch.cat([torch.arange(n) for n in lengths])
    bounds = Boundaries.from_position_ids(positions[None], causal=True)
    assert torch.equal(
        bounds.visible(), document_mask(lengths, lengths, len(positions), len(positions), causal=True)
    )


def test_positions_need_not_start_at_zero():
    bounds = Boundaries.from_position_ids(torch.tensor([7, 8, 9, 4, 5, 5]), causal=False)
    assert torch.equal(bounds.visible(), document_mask([3, 2, 1], [3, 2, 1], 6, 6))


@st.composite
def trees(draw, first=0, floors=3):
    """``subtree_end`` of one or more nodes side by side, in depth-first order."""
    ends = []
    for _ in range(draw(st.integers(1, 3))):
        tokens = draw(st.integers(1, 3))
        below = draw(trees(first + len(ends) + tokens, floors - 1)) if floors and draw(st.booleans()) else []
        end = first + len(ends) + tokens + len(below)
        ends += [end] * tokens + below
    return ends


@settings(max_examples=60, deadline=None)
@given(trees(), st.integers(0, 2))
def test_a_node_is_seen_by_its_subtree(ends, slack):
    ends = ends + list(range(len(ends), len(ends) + slack))
    bounds = Boundaries.from_tree(torch.tensor(ends))
    expected = torch.tensor([[k <= q < ends[k] for k in range(len(ends))] for q in range(len(ends))])
    assert torch.equal(bounds.visible(), expected)
    assert torch.equal(sides(bounds)[1], expected)


@pytest.mark.parametrize("lengths", [[1], [100, 300, 5, 900], [128, 128]])
def test_every_tile_has_its_turn_and_long_documents_the_first(lengths):
    tokens = sum(lengths)
    bounds = Boundaries.from_cu_seqlens(cu_seqlens(lengths), tokens, causal=True)
    for order in (bounds.query_tiles, bounds.key_tiles):
        assert sorted(order.tolist()) == list(range(-(-tokens // 128)))


def test_tiles_of_a_long_document_stand_together_and_come_first():
    bounds = Boundaries.from_cu_seqlens(cu_seqlens([512, 4096, 256, 4096]), 8960, causal=True)
    assert bounds.query_tiles.tolist() == [*range(35, 3, -1), *range(69, 37, -1), 3, 2, 1, 0, 37, 36]
    assert bounds.key_tiles.tolist() == [*range(4, 36), *range(38, 70), *range(4), 36, 37]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((torch.zeros(2), 4), "cu_seqlens_q must be a vector of int32 or int64"),
        ((torch.zeros(2, 2, dtype=torch.int32), 4), "cu_seqlens_q must be"),
        ((cu_seqlens([4]), 2**31), "more than fit an int32"),
        ((cu_seqlens([4]), 4, cu_seqlens([4])), "given together"),
        ((cu_seqlens([4]), 4, cu_seqlens([2, 2]), 4), "same documents"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, why):
    with pytest.raises(KernelError, match=why):
        Boundaries.from_cu_seqlens(*arguments)


@pytest.mark.gpu
def test_boundaries_are_made_without_waiting_for_the_device():
    cu = cu_seqlens([100, 0, 300, 5], "cuda")
    positions = torch.cat([torch.arange(n) for n in (100, 300, 5)]).cuda()
    end = torch.tensor([5, 5, 3, 5, 5], device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = [
            Boundaries.from_cu_seqlens(cu, 410, causal=True, window=(20, 0)),
            Boundaries.from_position_ids(positions),
            Boundaries.from_tree(end),
        ]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(
        made[0].visible().cpu(), document_mask([100, 0, 300, 5], [100, 0, 300, 5], 410, 410, True, (20, 0))
    )
