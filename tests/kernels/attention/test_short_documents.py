"""The backward of short documents, which one program does for the queries and the keys of a tile."""

import pytest
import torch
from dense import cu_seqlens, dense_attention, document_mask

from tersely.kernels import Boundaries, varlen_attention

CASES = {
    "causal": ([20, 100, 33, 1, 0, 90], None, dict(causal=True)),
    "full": ([20, 100, 33, 1, 0, 90], None, dict()),
    "window": ([150, 10, 140], None, dict(causal=True, window=(17, -1))),
    "ends on tiles": ([64, 128, 63, 1, 65], None, dict(causal=True)),
    "more queries than keys": ([140, 60, 5], [10, 0, 70], dict()),
    "more keys than queries": ([10, 0, 40], [150, 60, 130], dict(causal=True)),
}
SLACK = 5


@pytest.mark.parametrize("head_dim", [24, 64, 128])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_those_of_dense_attention(place, case, head_dim):
    lengths, lengths_k, options = case
    lengths_k = lengths_k or lengths
    tokens, tokens_k = sum(lengths) + SLACK, sum(lengths_k) + SLACK
    dtype = torch.bfloat16 if place.device == "cuda" else torch.float32
    if place.backend == "hopper" and head_dim == 24:
        pytest.skip("not a head dimension of the Hopper kernels")
    shapes = [(tokens, 2, head_dim), (tokens_k, 2, head_dim), (tokens_k, 2, head_dim)]
    q, k, v = (torch.randn(shape).to(place.device, dtype).requires_grad_() for shape in shapes)
    cross = [cu_seqlens(lengths_k, place.device)] if lengths_k is not lengths else []
    out = varlen_attention(
        q, k, v, cu_seqlens(lengths, place.device), *cross, backend=place.backend, **options
    )
    reach = torch.randn(out.shape).to(place.device, dtype)
    got = torch.autograd.grad(out, (q, k, v), reach)

    window = options.get("window", (-1, -1))
    seen = document_mask(lengths, lengths_k, tokens, tokens_k, options.get("causal", False), window)
    leaves = [x.detach().cpu().double().requires_grad_() for x in (q, k, v)]
    exact, _ = dense_attention(*leaves, seen, head_dim**-0.5, 0.0, None, None)
    expected = torch.autograd.grad(exact, leaves, reach.cpu().double())
    for a, b in zip(got, expected, strict=True):
        assert (a.cpu().double() - b).norm() <= (1e-2 if dtype is torch.bfloat16 else 1e-5) * b.norm()
        assert not a[-SLACK:].any()


def test_both_ways_of_the_backward_agree_for_short_documents(place):
    if place.backend != "triton":
        pytest.skip("the portable kernels have two ways")
    from tersely.kernels.attention.triton import launch

    dtype = torch.bfloat16 if place.device == "cuda" else torch.float32
    bounds = Boundaries.from_cu_seqlens(cu_seqlens([70, 3, 100], place.device), 180, causal=True)
    q, k, v, dout = (torch.randn(180, 2, 64).to(place.device, dtype) for _ in range(4))
    assert launch.takes_short(q, k, bounds, softcap=0.0, gate=None, dlse=None)
    out, lse = launch.forward(q, k, v, bounds, scale=0.125)
    short = launch.backward(dout, q, k, v, out, lse, bounds, scale=0.125)
    general = launch.backward(dout, q, k, v, out, lse, bounds, scale=0.125, tiles=launch.backward_tiles(64))
    for a, b in zip(short[:3], general[:3], strict=True):
        assert (a - b).float().norm() <= (1e-2 if dtype is torch.bfloat16 else 1e-5) * b.float().norm()


@pytest.mark.gpu
def test_the_same_bits_in_every_run():
    lengths = [700 % n + 1 for n in range(1, 200)]
    q, k, v, reach = (
        torch.randn(sum(lengths), 4, 128, device="cuda", dtype=torch.bfloat16) for _ in range(4)
    )
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out = varlen_attention(*leaves, cu_seqlens(lengths, "cuda"), causal=True, backend="triton")
    first = torch.autograd.grad(out, leaves, reach, retain_graph=True)
    for _ in range(50):
        for a, b in zip(first, torch.autograd.grad(out, leaves, reach, retain_graph=True), strict=True):
            assert torch.equal(a, b)
