import pytest
import torch
from segments import LAYOUTS, close, expanded, layout, reduced

from tersely.errors import KernelError
from tersely.kernels import segment_expand


@pytest.mark.parametrize("name", LAYOUTS)
def test_expands_as_loops_do(place, name):
    cu_seqlens, tokens = layout(name, place.device)
    values = torch.randn(len(cu_seqlens) - 1, 3, 5).to(place.device)
    out = segment_expand(values, cu_seqlens, tokens, backend=place.backend)
    assert torch.equal(out.cpu().double(), torch.from_numpy(expanded(values, cu_seqlens, tokens)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gradients_are_sums_over_segments(place, dtype):
    cu_seqlens, tokens = layout("long between short", place.device, torch.int64)
    values = torch.randn(len(cu_seqlens) - 1, 70).to(place.device, dtype).requires_grad_()
    out = segment_expand(values, cu_seqlens, tokens, backend=place.backend)
    grad = torch.randn(out.shape).to(place.device, dtype)
    (got,) = torch.autograd.grad(out, values, grad)
    assert got.dtype == dtype
    assert close(got, reduced(grad, cu_seqlens, "sum"), scale=30)


def test_the_gradient_of_a_sum_has_no_strides(place):
    cu_seqlens, tokens = layout("slack", place.device)
    values = torch.randn(3, 4).to(place.device).requires_grad_()
    segment_expand(values, cu_seqlens, tokens, backend=place.backend).sum().backward()
    assert torch.equal(values.grad, torch.diff(cu_seqlens)[:, None].expand(3, 4).float())


def test_strided_values(place):
    cu_seqlens, tokens = layout("slack", place.device)
    packed = torch.randn(3, 8).to(place.device)
    for values in (packed[:, 2:5], packed[:, ::2]):
        out = segment_expand(values, cu_seqlens, tokens, backend=place.backend)
        assert torch.equal(out.cpu().double(), torch.from_numpy(expanded(values, cu_seqlens, tokens)))


def test_gradients_of_the_twin_are_exact():
    cu_seqlens = torch.tensor([0, 3, 3, 8])
    values = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: segment_expand(v, cu_seqlens, 9), (values,))


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(KernelError, match="values has 2 rows, cu_seqlens bounds 1 segments"):
        segment_expand(torch.zeros(2, 3), torch.tensor([0, 4]), 4)
    with pytest.raises(KernelError, match="tokens is -1"):
        segment_expand(torch.zeros(1, 3), torch.tensor([0, 4]), -1)
