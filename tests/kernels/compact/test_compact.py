import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segments import LAYOUTS, layout

from tersely.errors import KernelError
from tersely.kernels import compact, scatter_back, segment_reduce


def by_loops(values, keep, cu_seqlens):
    """Kept rows, boundaries and origins, one token at a time."""
    rows, bounds = [], [0]
    marks = keep.tolist()
    limits = cu_seqlens.tolist()
    for start, end in zip(limits[:-1], limits[1:], strict=True):
        rows += [place for place in range(start, end) if marks[place]]
        bounds.append(len(rows))
    return values[torch.tensor(rows, dtype=torch.int64, device=values.device)], bounds, rows


def flags(tokens, device, share=0.4):
    return (torch.rand(tokens) < share).to(device)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_keeps_rows_as_loops_do(place, name, share):
    cu_seqlens, tokens = layout(name, place.device)
    values, keep = torch.randn(tokens, 5).to(place.device), flags(tokens, place.device, share)
    rows, bounds, origins = by_loops(values, keep, cu_seqlens)
    out = compact(values, keep, cu_seqlens, backend=place.backend)
    assert torch.equal(out.values, rows)
    assert out.cu_seqlens.tolist() == bounds
    assert out.cu_seqlens.dtype == cu_seqlens.dtype
    assert out.source.tolist() == origins


@pytest.mark.parametrize("capacity", [0, 7, 430, 2500])
def test_a_capacity_fixes_the_shape(place, capacity):
    cu_seqlens, tokens = layout("long between short", place.device, torch.int64)
    values, keep = torch.randn(tokens, 2, 3).to(place.device), flags(tokens, place.device)
    rows, bounds, origins = by_loops(values, keep, cu_seqlens)
    out = compact(values, keep, cu_seqlens, capacity, backend=place.backend)
    slack = max(0, capacity - len(rows))
    assert torch.equal(out.values, torch.cat([rows[:capacity], rows.new_zeros(slack, 2, 3)]))
    assert out.cu_seqlens.tolist() == [min(bound, capacity) for bound in bounds]
    assert out.source.tolist() == origins[:capacity] + [-1] * slack


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float16])
def test_rows_of_any_dtype_and_width(place, dtype):
    cu_seqlens, tokens = layout("slack", place.device)
    keep = flags(tokens, place.device)
    for shape in ((), (0,), (1,), (770,)):
        values = torch.randint(0, 2, (tokens, *shape)).to(place.device, dtype)
        out = compact(values, keep, cu_seqlens, backend=place.backend)
        assert torch.equal(out.values, by_loops(values, keep, cu_seqlens)[0])


@pytest.mark.parametrize("tokens", [1023, 1024, 1025, 3072])
def test_totals_at_the_edges_of_blocks(place, tokens):
    cu_seqlens = torch.tensor([0, tokens // 2, tokens], dtype=torch.int32, device=place.device)
    values, keep = torch.arange(tokens, device=place.device), flags(tokens, place.device)
    out = compact(values, keep, cu_seqlens, backend=place.backend)
    assert torch.equal(out.values, values[keep])
    assert out.cu_seqlens.tolist() == [0, int(keep[: tokens // 2].sum()), int(keep.sum())]


def test_many_blocks_of_flags(place):
    cu_seqlens = torch.tensor([0, 1000, 1024, 3000, 4096, 5000], device=place.device)
    keep = flags(5003, place.device)
    values = torch.arange(5003, device=place.device)
    rows, bounds, origins = by_loops(values, keep, cu_seqlens)
    out = compact(values, keep, cu_seqlens, backend=place.backend)
    assert out.source.tolist() == origins == out.values.tolist() == rows.tolist()
    assert out.cu_seqlens.tolist() == bounds


def test_scatter_back_puts_rows_where_they_were(place):
    cu_seqlens, tokens = layout("long between short", place.device)
    values, keep = torch.randn(tokens, 5).to(place.device), flags(tokens, place.device)
    keep[421:] = True
    expected = torch.where(keep[:, None], values, 0)
    expected[421:] = 0
    for capacity in (None, 500):
        out = compact(values, keep, cu_seqlens, capacity, backend=place.backend)
        assert torch.equal(scatter_back(out.values, out.source, tokens, backend=place.backend), expected)


def test_gradients_go_where_the_rows_came_from(place):
    cu_seqlens, tokens = layout("slack", place.device)
    keep = flags(tokens, place.device)
    for capacity in (None, 4, 30):
        values = torch.randn(tokens, 5).to(place.device).requires_grad_()
        out = compact(values, keep, cu_seqlens, capacity, backend=place.backend)
        grad = torch.randn_like(out.values)
        (got,) = torch.autograd.grad(out.values, values, grad)
        expected = torch.zeros_like(values)
        real = out.source >= 0
        expected[out.source[real]] = grad[real]
        assert torch.equal(got, expected)
        back = torch.randn(len(out.source), 5).to(place.device).requires_grad_()
        (got,) = torch.autograd.grad(
            scatter_back(back, out.source, tokens, backend=place.backend), back, values
        )
        assert torch.equal(got, torch.where(real[:, None], values[out.source], 0))


def test_strided_values_and_flags(place):
    cu_seqlens, tokens = layout("slack", place.device)
    packed, keep = torch.randn(tokens, 12).to(place.device), flags(2 * tokens, place.device)[::2]
    for values in (packed[:, 3:8], packed[:, ::2], packed.t().contiguous().t()):
        assert torch.equal(
            compact(values, keep, cu_seqlens, backend=place.backend).values,
            by_loops(values, keep, cu_seqlens)[0],
        )


def test_tokens_merge_into_groups_by_reducing_over_compacted_boundaries(place):
    values = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]], device=place.device)
    starts = torch.tensor([True, False, True, True, False], device=place.device)
    documents = torch.tensor([0, 3, 5], device=place.device)
    groups = compact(torch.arange(5, device=place.device), starts, documents, backend=place.backend)
    bounds = torch.cat([groups.values, documents[-1:]])
    merged = segment_reduce(values, bounds, "sum", backend=place.backend)
    assert merged[:, 0].tolist() == [3, 3, 9]
    assert groups.cu_seqlens.tolist() == [0, 2, 3]


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 12), max_size=6),
    slack=st.integers(0, 3),
    capacity=st.none() | st.integers(0, 40),
    seed=st.integers(0, 9),
)
def test_random_rows_keep_their_order(lengths, slack, capacity, seed):
    cu_seqlens = torch.tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int32)
    tokens = sum(lengths) + slack
    keep = torch.from_numpy(np.random.default_rng(seed).random(tokens) < 0.5)
    rows, bounds, origins = by_loops(torch.arange(tokens), keep, cu_seqlens)
    out = compact(torch.arange(tokens), keep, cu_seqlens, capacity)
    limit = len(rows) if capacity is None else capacity
    assert out.source.tolist() == (origins + [-1] * limit)[:limit]
    assert out.cu_seqlens.tolist() == [min(bound, limit) for bound in bounds]


def test_gradients_of_the_twin_are_exact():
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([True, False, True, True, False, True])
    cu_seqlens = torch.tensor([0, 2, 5])
    assert torch.autograd.gradcheck(lambda v: compact(v, keep, cu_seqlens, 4).values, (values,))
    source = torch.tensor([3, -1, 0, 5, 7, 2])
    assert torch.autograd.gradcheck(lambda v: scatter_back(v, source, 8), (values,))
    assert torch.autograd.gradgradcheck(lambda v: scatter_back(v, source, 8) ** 2, (values,))


def test_arguments_that_do_not_fit_are_named():
    values, cu_seqlens = torch.zeros(4, 3), torch.tensor([0, 4])
    with pytest.raises(KernelError, match="keep has shape"):
        compact(values, torch.ones(3, dtype=torch.bool), cu_seqlens)
    with pytest.raises(KernelError, match=r"keep is torch\.int64"):
        compact(values, torch.ones(4, dtype=torch.int64), cu_seqlens)
    with pytest.raises(KernelError, match="capacity is -1"):
        compact(values, torch.ones(4, dtype=torch.bool), cu_seqlens, -1)
    with pytest.raises(KernelError, match=r"source is torch\.int32"):
        scatter_back(values, torch.zeros(4, dtype=torch.int32), 4)
