import numpy as np
import pytest
import torch
from segments import LAYOUTS, close, layout, rows_of, wide

from tersely.errors import KernelError
from tersely.kernels import exponential_smoothing


def by_loops(values, weights, cu_seqlens):
    """One position after the other, in float64."""
    out = np.zeros(values.shape)
    for start, end in rows_of(cu_seqlens):
        state = np.zeros(values.shape[1:])
        for place in range(start, end):
            state = weights[place] * values[place] + (1 - weights[place]) * state
            out[place] = state
    return out


def inputs(tokens, place, dtype=torch.float32, columns=(3, 30)):
    """Values, and weights some of which are exactly 0 and 1."""
    weights = torch.rand(tokens)
    weights[::5], weights[3::7] = 0, 1
    return torch.randn(tokens, *columns).to(place.device, dtype), weights.to(place.device)


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_document_is_smoothed_for_itself(place, name):
    cu_seqlens, tokens = layout(name, place.device)
    values, weights = inputs(tokens, place)
    values[int(cu_seqlens[-1]) :] = torch.nan
    out = exponential_smoothing(values, weights, cu_seqlens, backend=place.backend)
    assert close(out, by_loops(wide(values), wide(weights), cu_seqlens), scale=10)


@pytest.mark.parametrize("name", ["words", "slack", "long between short", "one long"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_of_the_loop(place, name, dtype):
    cu_seqlens, tokens = layout(name, place.device, torch.int64)
    values, weights = inputs(tokens, place, dtype, (70,))
    exact = [
        values.detach().cpu().double().requires_grad_(),
        weights.detach().cpu().double().requires_grad_(),
    ]
    values.requires_grad_(), weights.requires_grad_()
    grad = torch.randn(values.shape).to(place.device, dtype)
    out = exponential_smoothing(values, weights, cu_seqlens, backend=place.backend)
    got = torch.autograd.grad(out, [values, weights], grad)
    rows = []
    for start, end in rows_of(cu_seqlens):
        state = torch.zeros(70, dtype=torch.float64)
        for place_ in range(start, end):
            state = exact[1][place_] * exact[0][place_] + (1 - exact[1][place_]) * state
            rows.append(state)
    wanted = torch.autograd.grad(torch.stack(rows), exact, wide_tensor(grad)[: len(rows)])
    for one, other in zip(got, wanted, strict=True):
        distance = (wide_tensor(one) - other).norm() / other.norm()
        assert distance < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("name", ["words", "slack", "long between short", "edges of a chunk"])
def test_what_is_no_number_stays_in_its_document(place, name):
    cu_seqlens, tokens = layout(name, place.device)
    values, weights = inputs(tokens, place, columns=(3,))
    grad = torch.randn(values.shape).to(place.device)
    bounds = cu_seqlens.tolist()

    def smoothed(sick):
        dirt = torch.zeros_like(values)
        for start, end in sick:
            dirt[start:end] = torch.nan
        leaves = [(values + dirt).requires_grad_(), weights.clone().requires_grad_()]
        out = exponential_smoothing(*leaves, cu_seqlens, backend=place.backend)
        return out, *torch.autograd.grad(out, leaves, grad + dirt)

    rows = rows_of(cu_seqlens)
    slack = (bounds[-1], tokens)
    clean, dirty = smoothed([]), smoothed([*rows[::2], slack])
    for start, end in rows[1::2]:
        for one, other in zip(clean, dirty, strict=True):
            assert torch.equal(one[start:end], other[start:end])
    assert all(part[bounds[-1] :].eq(0).all() for part in dirty)


def wide_tensor(tensor):
    return tensor.detach().cpu().double()


def test_the_twin_keeps_float64():
    values, weights = torch.randn(9, 4, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    bounds = torch.tensor([0, 4, 9])
    out = exponential_smoothing(values, weights, bounds)
    np.testing.assert_allclose(out, by_loops(values.numpy(), weights.numpy(), bounds), rtol=1e-13)


def test_what_does_not_fit_is_refused():
    values, bounds = torch.randn(4, 2), torch.tensor([0, 4])
    with pytest.raises(KernelError, match="one number for each token"):
        exponential_smoothing(values, torch.rand(4, 1), bounds)
    with pytest.raises(KernelError, match="weights has shape"):
        exponential_smoothing(values, torch.rand(3), bounds)
