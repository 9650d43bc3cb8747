import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segments import LAYOUTS, close, expanded, layout, reduced, rows_of

from tersely.errors import KernelError, UsageError
from tersely.kernels import segment_reduce

KINDS = ("sum", "mean", "max")


def random(*shape, dtype=torch.float32, device="cpu"):
    return torch.randn(*shape, dtype=torch.float32).to(dtype).to(device)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_reduces_as_loops_do(place, kind, name):
    cu_seqlens, tokens = layout(name, place.device)
    values = random(tokens, 5, device=place.device)
    out = segment_reduce(values, cu_seqlens, kind, backend=place.backend)
    assert out.dtype == values.dtype
    assert close(out, reduced(values, cu_seqlens, kind), scale=30)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("columns", [(), (3, 40), (300,)])
def test_any_channels_and_dtypes(place, dtype, columns):
    cu_seqlens, tokens = layout("just too long", place.device, torch.int64)
    values = random(tokens, *columns, dtype=dtype, device=place.device)
    for kind in KINDS:
        out = segment_reduce(values, cu_seqlens, kind, backend=place.backend)
        assert out.shape == (len(cu_seqlens) - 1, *columns)
        assert close(out, reduced(values, cu_seqlens, kind), scale=30), kind


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_tokens_of_the_segment_only(place, kind):
    cu_seqlens, tokens = layout("long between short", place.device)
    values = random(tokens, 5, device=place.device).requires_grad_()
    out = segment_reduce(values, cu_seqlens, kind, backend=place.backend)
    grad = random(*out.shape, device=place.device)
    (got,) = torch.autograd.grad(out, values, grad)
    if kind == "max":
        expected = np.zeros(values.shape)
        for number, (start, end) in enumerate(rows_of(cu_seqlens)):
            if end > start:
                first = start + values[start:end].detach().cpu().numpy().argmax(0)
                expected[first, np.arange(5)] = grad[number].cpu().numpy()
    else:
        lengths = torch.diff(cu_seqlens).clamp(min=1)[:, None] if kind == "mean" else 1
        expected = expanded(grad / lengths, cu_seqlens, tokens)
    assert close(got, expected)


def test_the_first_of_equal_maxima_gets_the_gradient(place):
    cu_seqlens, tokens = layout("one long", place.device)
    values = torch.zeros(tokens, 3, device=place.device)
    values[torch.tensor([600, 300, 650])] = 1
    values.requires_grad_()
    segment_reduce(values, cu_seqlens, "max", backend=place.backend).sum().backward()
    assert values.grad.nonzero()[:, 0].tolist() == [300, 300, 300]


def test_nan_and_infinity_pass_through_maxima(place):
    cu_seqlens = torch.tensor([0, 2, 4, 300], device=place.device)
    values = torch.full((300, 1), -torch.inf, device=place.device)
    values[3] = torch.nan
    values[200] = torch.nan
    values.requires_grad_()
    out = segment_reduce(values, cu_seqlens, "max", backend=place.backend)
    assert out[0] == -torch.inf
    assert out[1:].isnan().all()
    out.backward(torch.ones_like(out))
    assert values.grad.nonzero()[:, 0].tolist() == [0, 3, 200]


@pytest.mark.parametrize("name", LAYOUTS)
def test_softmax_weights_as_loops_do(place, name):
    cu_seqlens, tokens = layout(name, place.device)
    values, weights = (random(tokens, *shape, device=place.device) for shape in ((3, 7), (3,)))
    out = segment_reduce(values, cu_seqlens, "softmax", 4 * weights, backend=place.backend)
    assert close(out, reduced(values, cu_seqlens, "softmax", 4 * weights), scale=10)


@pytest.mark.parametrize(
    "name", ["words", "slack", "long between short", "one long", "only slack", "no segments"]
)
def test_softmax_gradients_are_those_of_the_loops(place, name):
    cu_seqlens, tokens = layout(name, place.device)
    values, weights = (
        random(tokens, *shape, device=place.device).requires_grad_() for shape in ((2, 6), (2,))
    )
    out = segment_reduce(values, cu_seqlens, "softmax", weights, backend=place.backend)
    grad = random(*out.shape, device=place.device)
    got = torch.autograd.grad(out, (values, weights), grad)

    exact = [tensor.detach().double().cpu().requires_grad_() for tensor in (values, weights)]
    pieces = [
        (torch.softmax(exact[1][start:end], 0)[:, :, None] * exact[0][start:end]).sum(0)
        for start, end in rows_of(cu_seqlens)
    ]
    loss = sum(
        ((piece * g).sum() for piece, g in zip(pieces, grad.double().cpu(), strict=True)), exact[0].sum() * 0
    )
    expected = torch.autograd.grad(loss + exact[1].sum() * 0, exact)
    for one, other in zip(got, expected, strict=True):
        assert close(one, other.numpy(), scale=10)


def test_one_weight_for_each_token_serves_all_channels(place):
    cu_seqlens, tokens = layout("long between short", place.device)
    values, weights = random(tokens, 4, 3, device=place.device), random(tokens, device=place.device)
    out = segment_reduce(values, cu_seqlens, "softmax", weights, backend=place.backend)
    assert close(out, reduced(values, cu_seqlens, "softmax", weights[:, None].expand(tokens, 4)), scale=10)


def test_weights_of_minus_infinity_leave_tokens_out(place):
    cu_seqlens = torch.tensor([0, 2, 4], device=place.device)
    values = random(4, 1, 3, device=place.device).requires_grad_()
    weights = torch.tensor([-torch.inf, 1.0, -torch.inf, -torch.inf], device=place.device).requires_grad_()
    out = segment_reduce(values, cu_seqlens, "softmax", weights, backend=place.backend)
    assert torch.equal(out, torch.stack([values[1], torch.zeros_like(values[1])]))
    out.sum().backward()
    assert values.grad[1].eq(1).all()
    assert values.grad[[0, 2, 3]].eq(0).all()
    assert weights.grad.eq(0).all()


def test_slack_rows_are_not_read_and_get_no_gradient(place):
    cu_seqlens, tokens = layout("slack", place.device)
    values, weights = random(tokens, 2, 3, device=place.device), random(tokens, 2, device=place.device)
    values[12:] = weights[12:] = torch.nan
    for kind in (*KINDS, "softmax"):
        inputs = [
            values.clone().requires_grad_(),
            *([weights.clone().requires_grad_()] if kind == "softmax" else []),
        ]
        out = segment_reduce(inputs[0], cu_seqlens, kind, *inputs[1:], backend=place.backend)
        assert out.isfinite().all(), kind
        for grad in torch.autograd.grad(out, inputs, torch.ones_like(out)):
            assert grad[12:].eq(0).all(), kind


def test_strided_rows_and_columns(place):
    cu_seqlens, tokens = layout("long between short", place.device)
    packed = random(tokens, 12, device=place.device)
    for values in (packed[:, 3:8], packed[:, ::2], packed.t().contiguous().t()):
        for kind in KINDS:
            out = segment_reduce(values, cu_seqlens, kind, backend=place.backend)
            assert close(out, reduced(values, cu_seqlens, kind), scale=30)


def test_the_same_bits_each_time(place):
    cu_seqlens, tokens = layout("long between short", place.device)
    values = random(tokens, 5, device=place.device)
    first = segment_reduce(values, cu_seqlens, backend=place.backend)
    assert all(
        torch.equal(first, segment_reduce(values, cu_seqlens, backend=place.backend)) for _ in range(3)
    )


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(0, 9) | st.integers(100, 300), max_size=8), slack=st.integers(0, 3))
def test_random_lengths_reduce_as_torch_does(lengths, slack):
    cu_seqlens = torch.tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int64)
    values = torch.randn(sum(lengths) + slack, 2, dtype=torch.float64)
    for kind in KINDS:
        peer = torch.segment_reduce(
            values[: sum(lengths)], kind, lengths=torch.tensor(lengths, dtype=torch.int64), unsafe=True, initial=0
        ) if lengths and kind != "max" else torch.from_numpy(reduced(values, cu_seqlens, kind))  # fmt: skip
        if kind == "mean":
            peer = torch.from_numpy(reduced(values, cu_seqlens, kind))
        torch.testing.assert_close(segment_reduce(values, cu_seqlens, kind), peer)


def test_gradients_of_the_twin_are_exact():
    cu_seqlens = torch.tensor([0, 3, 3, 8])
    values = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    for kind in KINDS:
        assert torch.autograd.gradcheck(lambda v, kind=kind: segment_reduce(v, cu_seqlens, kind), (values,))
    assert torch.autograd.gradcheck(
        lambda v, w: segment_reduce(v, cu_seqlens, "softmax", w), (values, weights)
    )
    assert torch.autograd.gradgradcheck(lambda v: segment_reduce(v, cu_seqlens, "mean"), (values,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": torch.zeros(4, dtype=torch.int64)}, "values is torch.int64"),
        ({"values": torch.tensor(1.0)}, "values has 0 dimensions"),
        ({"cu_seqlens": torch.tensor([0.0, 4.0])}, "cu_seqlens is torch.float32"),
        ({"cu_seqlens": torch.zeros(0, dtype=torch.int32)}, "cu_seqlens is torch.int32 of shape"),
        ({"weights": torch.zeros(4)}, "weights are for reduce='softmax'"),
        ({"reduce": "softmax"}, "weights is missing"),
        ({"reduce": "softmax", "weights": torch.zeros(3)}, "weights has shape"),
        ({"reduce": "softmax", "weights": torch.zeros(4, 2)}, "weights has shape"),
        ({"backend": "triton"}, "backend 'triton' cannot run on cpu"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    arguments = {"values": torch.zeros(4, 3), "cu_seqlens": torch.tensor([0, 4])} | change
    with pytest.raises(KernelError, match=message):
        segment_reduce(**arguments)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(UsageError, match="no reduce 'median'"):
        segment_reduce(torch.zeros(4, 3), torch.tensor([0, 4]), "median")
