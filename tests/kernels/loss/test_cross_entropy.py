import pytest
import torch
from segments import layout, rows_of

from tersely.errors import KernelError
from tersely.kernels import cross_entropy, packed_cross_entropy

ROWS, CHANNELS, VOCABULARY = 37, 16, 45


def labels_of(device, rows=ROWS, none=0.6):
    labels = torch.randint(0, VOCABULARY, (rows,))
    labels[torch.rand(rows) < none] = -100
    return labels.to(device)


def exact(logits, labels, softcap=None):
    """The mean loss by torch, in float64; 0 if there is no label."""
    wide = logits.double()
    wide = softcap * torch.tanh(wide / softcap) if softcap else wide
    if (labels == -100).all():
        return wide.sum() * 0
    return torch.nn.functional.cross_entropy(wide, labels)


def assert_near(got, expected):
    torch.testing.assert_close(got.double(), expected.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("columns", [1, 45, 5000])
def test_logits_as_torch_does(place, columns, softcap):
    logits = (4 * torch.randn(ROWS, columns)).to(place.device).requires_grad_()
    labels = labels_of(place.device) % columns
    labels[::3] = -100
    loss = cross_entropy(logits, labels, softcap, backend=place.backend)
    expected = exact(logits, labels, softcap)
    assert_near(loss, expected)
    (got,), (wanted,) = (torch.autograd.grad(2 * value, logits) for value in (loss, expected))
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_sixteen_bits_and_strided_rows(place, dtype):
    whole = (4 * torch.randn(ROWS, 100)).to(place.device, dtype)
    labels = labels_of(place.device)
    for logits in (whole[:, 3 : 3 + VOCABULARY], whole[:, : 2 * VOCABULARY : 2]):
        loss = cross_entropy(logits, labels, backend=place.backend)
        assert_near(loss, exact(logits, labels))


def test_minus_infinity_and_labels_that_are_none(place):
    logits = torch.randn(3, 9).to(place.device)
    logits[:, :4] = -torch.inf
    labels = torch.tensor([5, 8, -100], device=place.device)
    assert_near(cross_entropy(logits, labels, backend=place.backend), exact(logits, labels))
    for wrong in (9, -1):
        labels[1] = wrong
        assert cross_entropy(logits, labels, backend=place.backend).isnan()


@pytest.mark.parametrize("none", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("extra", [{}, {"softcap": 3.0}, {"capacity": ROWS + 5}])
@pytest.mark.parametrize("biased", [False, True])
def test_the_layer_and_its_gradients_as_torch_does(place, none, extra, biased):
    leaves = [torch.randn(shape) for shape in ((ROWS, CHANNELS), (VOCABULARY, CHANNELS), (VOCABULARY,))]
    leaves = [leaf.to(place.device).requires_grad_() for leaf in leaves[: 2 + biased]]
    bias = leaves[2] if biased else None
    labels = labels_of(place.device, none=none)
    loss = packed_cross_entropy(*leaves[:2], labels, bias, chunk=10, backend=place.backend, **extra)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = exact(torch.nn.functional.linear(*wide), labels, extra.get("softcap"))
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-4)
    for got, wanted in zip(
        torch.autograd.grad(3 * loss, leaves), torch.autograd.grad(3 * expected, wide), strict=True
    ):
        torch.testing.assert_close(got.double(), wanted, atol=1e-5, rtol=1e-3)


def test_next_tokens_never_cross_a_boundary(place):
    cu_seqlens, tokens = layout("slack", place.device)
    hidden = torch.randn(tokens, CHANNELS).to(place.device)
    weight = torch.randn(VOCABULARY, CHANNELS).to(place.device)
    ids = labels_of(place.device, tokens, none=0)
    labels = torch.full_like(ids, -100)
    for start, end in rows_of(cu_seqlens):
        labels[start : max(start, end - 1)] = ids[start + 1 : end]
    got = packed_cross_entropy(hidden, weight, ids, shift=True, cu_seqlens=cu_seqlens, backend=place.backend)
    assert_near(got, packed_cross_entropy(hidden, weight, labels, backend=place.backend))
    real = packed_cross_entropy(hidden, weight, ids, cu_seqlens=cu_seqlens, backend=place.backend)
    assert_near(real, packed_cross_entropy(hidden[:12], weight, ids[:12], backend=place.backend))


def test_labels_beyond_the_capacity_are_left_out(place):
    hidden, weight = (
        torch.randn(9, CHANNELS).to(place.device),
        torch.randn(VOCABULARY, CHANNELS).to(place.device),
    )
    labels = labels_of(place.device, 9, none=0)
    labels[0] = -100
    got = packed_cross_entropy(hidden, weight, labels, capacity=4, backend=place.backend)
    torch.testing.assert_close(got.double(), exact(hidden[1:5] @ weight.T, labels[1:5]), atol=1e-5, rtol=1e-4)


def test_no_rows(place):
    hidden = torch.zeros(0, CHANNELS, device=place.device, requires_grad=True)
    weight = torch.ones(VOCABULARY, CHANNELS, device=place.device, requires_grad=True)
    labels = torch.zeros(0, dtype=torch.int64, device=place.device)
    bounds = torch.zeros(1, dtype=torch.int32, device=place.device)
    loss = packed_cross_entropy(hidden, weight, labels, shift=True, cu_seqlens=bounds, backend=place.backend)
    assert loss == 0
    assert all(grad.eq(0).all() for grad in torch.autograd.grad(loss, (hidden, weight)))


def test_gradients_of_the_twin_are_exact():
    shapes = ((7, 3), (5, 3), (5,))
    hidden, weight, bias = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    labels = torch.tensor([1, -100, 4, 0, 2, -100, 3])
    for softcap in (None, 2.0):
        assert torch.autograd.gradcheck(
            lambda h, w, b, cap=softcap: packed_cross_entropy(h, w, labels, b, cap, chunk=3),
            (hidden, weight, bias),
        )
        assert torch.autograd.gradcheck(lambda x, cap=softcap: cross_entropy(x, labels % 3, cap), (hidden,))


def test_arguments_that_do_not_fit_are_named():
    hidden, weight, labels = torch.zeros(4, 3), torch.zeros(5, 3), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(KernelError, match=r"labels is torch\.int32"):
        cross_entropy(hidden, labels.int())
    with pytest.raises(KernelError, match="softcap is -1"):
        cross_entropy(hidden, labels, -1)
    with pytest.raises(KernelError, match=r"shift=True needs cu_seqlens"):
        packed_cross_entropy(hidden, weight, labels, shift=True)
    with pytest.raises(KernelError, match=r"weight is torch\.float64"):
        packed_cross_entropy(hidden, weight.double(), labels)
    with pytest.raises(KernelError, match=r"bias has shape \(4,\)"):
        packed_cross_entropy(hidden, weight, labels, torch.zeros(4))
    with pytest.raises(KernelError, match="chunk is 0"):
        packed_cross_entropy(hidden, weight, labels, chunk=0)
