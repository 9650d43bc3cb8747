import numpy as np
import pytest
import torch
from segments import layout, rows_of, wide

from tersely.errors import KernelError
from tersely.kernels import exponential_smoothing

LONG = {
    "two chunks": ([0, 2, 130, 130, 131, 140], 142),
    "three chunks": ([0, 100, 270], 270),
    "ends on a chunk": ([0, 128, 128], 130),
}
NAMES = ["no tokens", "no segments", "nothing", "one token", "only slack", "words", *LONG]
KINDS = ("zeros and ones", "small")


def bounds_of(name, device, dtype=torch.int32):
    if name not in LONG:
        return layout(name, device, dtype)
    bounds, tokens = LONG[name]
    return torch.tensor(bounds, dtype=dtype, device=device), tokens


def inputs(place, tokens, *columns, kind="any", dtype=torch.float32):
    values, weights = torch.randn(tokens, *columns), torch.rand(tokens)
    if kind == "zeros and ones":
        weights = torch.where(weights < 0.3, 0.0, torch.where(weights > 0.7, 1.0, weights))
    weights = weights * 0.01 if kind == "small" else weights
    return values.to(place.device, dtype).requires_grad_(), weights.to(place.device).requires_grad_()


def by_loops(values, weights, cu_seqlens):
    """One token after another, differentiable; rows that are slack are 0."""
    flat, out = values[:, None].flatten(1), []
    for start, end in rows_of(cu_seqlens):
        state = torch.zeros_like(flat[0]) if end > start else None
        for t in range(start, end):
            state = weights[t] * flat[t] + (1 - weights[t]) * state
            out.append(state)
    slack = flat.new_zeros(len(flat) - len(out), flat.shape[1])
    return (torch.cat([torch.stack(out), slack]) if out else slack).view(values.shape)


def assert_near(got, expected, what, eps):
    error, size = np.abs(wide(got) - wide(expected)), np.abs(wide(expected)).max(initial=1)
    assert (error <= eps * size).all(), f"{what}: {error.max()} of {size}"


def compare(place, name, *columns, kind="any", dtype=torch.float32, offsets=torch.int32):
    cu_seqlens, tokens = bounds_of(name, place.device, offsets)
    values, weights = inputs(place, tokens, *columns, kind=kind, dtype=dtype)
    out = exponential_smoothing(values, weights, cu_seqlens, backend=place.backend)
    assert out.shape == values.shape
    assert out.dtype == dtype
    reach = torch.randn(out.shape).to(place.device, dtype)
    got = torch.autograd.grad(out, (values, weights), reach)
    exact = [x.detach().cpu().double().requires_grad_() for x in (values, weights)]
    expected = by_loops(*exact, cu_seqlens)
    loss = (expected * reach.cpu().double()).sum() + sum(x.sum() * 0 for x in exact)
    slopes = torch.autograd.grad(loss, exact)
    eps = 4 * torch.finfo(dtype).eps if dtype is not torch.float32 else 1e-5
    assert_near(out, expected, "out", eps)
    assert_near(got[0], slopes[0], "values", eps)
    assert_near(got[1], slopes[1], "weights", 4 * eps)


@pytest.mark.parametrize("name", NAMES)
def test_smooths_as_loops_do(place, name):
    compare(place, name, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_states_cross_chunks_whatever_the_weights(place, kind):
    compare(place, "two chunks", 5, kind=kind)


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [((), torch.float32), ((2, 9), torch.bfloat16), ((40,), torch.float16), ((3, 100), torch.float32)],
)
def test_any_channels_and_dtypes(place, columns, dtype):
    compare(place, "slack", *columns, dtype=dtype, offsets=torch.int64)


def test_a_weight_of_one_forgets_and_of_zero_keeps(place):
    cu_seqlens = torch.tensor([0, 4, 150], dtype=torch.int32, device=place.device)
    values, weights = inputs(place, 150, 8)
    with torch.no_grad():
        weights[:] = 0
        weights[[5, 100]] = 1
    out = exponential_smoothing(values, weights, cu_seqlens, backend=place.backend)
    assert not out[:5].any()
    assert torch.equal(out[5:100], values[5].expand(95, 8))
    assert torch.equal(out[100:], values[100].expand(50, 8))


def test_slack_rows_are_not_read_and_get_no_gradient(place):
    cu_seqlens, tokens = layout("slack", place.device)
    values, weights = inputs(place, tokens, 3)
    with torch.no_grad():
        values[12:] = weights[12:] = torch.nan
    out = exponential_smoothing(values, weights, cu_seqlens, backend=place.backend)
    assert not out[12:].any()
    for grad in torch.autograd.grad(out, (values, weights), torch.ones_like(out)):
        assert grad.isfinite().all()
        assert not grad[12:].any()


def test_strided_values_and_gradients(place):
    cu_seqlens, tokens = layout("slack", place.device)
    packed, weights = inputs(place, tokens, 12)
    for values in (packed[:, 3:8], packed[:, ::2], packed.t().contiguous().t()):
        plain = values.detach().contiguous().requires_grad_()
        one, other = (
            exponential_smoothing(x, weights, cu_seqlens, backend=place.backend) for x in (values, plain)
        )
        assert torch.equal(one, other)
        reach = torch.randn(tokens, 1).to(place.device).expand(one.shape)
        ours, theirs = (
            torch.autograd.grad(one, weights, reach),
            torch.autograd.grad(other, weights, reach.contiguous()),
        )
        assert torch.equal(ours[0], theirs[0])


@pytest.mark.gpu
def test_the_same_bits_each_time():
    cu_seqlens = torch.tensor([0, 700, 9000, 20000], dtype=torch.int32, device="cuda")
    values = torch.randn(20050, 600, device="cuda", requires_grad=True)
    weights = torch.rand(20050, device="cuda", requires_grad=True)
    runs = []
    for _ in range(20):
        out = exponential_smoothing(values, weights, cu_seqlens)
        runs.append((out, *torch.autograd.grad(out.sum(), (values, weights))))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_gradients_of_the_twin_are_exact():
    cu_seqlens = torch.tensor([0, 3, 3, 8])
    values = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, w: exponential_smoothing(v, w, cu_seqlens), (values, weights))


@pytest.mark.gpu
def test_long_documents_in_bf16_are_as_the_twin_says():
    cu_seqlens = torch.tensor([0, 700, 700, 9000, 9001, 20000], dtype=torch.int32, device="cuda")
    values = torch.randn(20050, 1000, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weights = (torch.rand(20050, device="cuda") ** 8).requires_grad_()
    found = []
    for backend in ("triton", "reference"):
        out = exponential_smoothing(values, weights, cu_seqlens, backend=backend)
        found.append((out, *torch.autograd.grad(out.float().square().sum(), (values, weights))))
    for a, b in zip(*found, strict=True):
        assert (a - b).float().norm() <= 1e-2 * b.float().norm()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": torch.zeros(4, dtype=torch.int64)}, "values is torch.int64"),
        ({"weights": torch.zeros(3)}, "weights has shape"),
        ({"weights": torch.zeros(4, 2)}, "one weight for each token"),
        ({"weights": torch.zeros(4, dtype=torch.bool)}, "weights is torch.bool"),
        ({"cu_seqlens": torch.tensor([0.0, 4.0])}, "cu_seqlens is torch.float32"),
        ({"backend": "triton"}, "backend 'triton' cannot run on cpu"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    arguments = {"values": torch.zeros(4, 3), "weights": torch.zeros(4), "cu_seqlens": torch.tensor([0, 4])}
    with pytest.raises(KernelError, match=message):
        exponential_smoothing(**arguments | change)
