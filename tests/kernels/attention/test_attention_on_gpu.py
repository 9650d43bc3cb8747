"""What only a GPU can show of packed attention: graphs, no waiting, the same bits, rows past 2**31 elements."""

import random

import pytest
import torch
from dense import cu_seqlens

from tersely.kernels import Backend, Boundaries, varlen_attention
from tersely.kernels.attention import backend as backends

pytestmark = pytest.mark.gpu
BACKENDS = ["triton", "hopper"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    q = torch.zeros(1, 1, 64, device="cuda", dtype=torch.bfloat16)
    if (why := backends.why_not(Backend(request.param), q, q, q)) is not None:
        pytest.skip(why)
    return request.param


def inputs(tokens, heads=(4, 2), head_dim=64, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return [
        torch.randn(
            tokens, h, head_dim, device="cuda", dtype=torch.bfloat16, generator=generator
        ).requires_grad_()
        for h in (heads[0], heads[1], heads[1])
    ]


def both_ways(q, k, v, cu, reach, backend, **options):
    out = varlen_attention(q, k, v, cu, backend=backend, **options)
    return out, *torch.autograd.grad(out, (q, k, v), reach)


def test_gates_and_sinks_in_bf16_are_rounded_no_further():
    q, k, v = inputs(300)
    cu = cu_seqlens([200, 100], "cuda")
    reach = torch.randn_like(q)
    rounded = dict(
        gate=-8 * torch.rand(300, device="cuda").bfloat16(), sink=torch.randn(4, device="cuda").bfloat16()
    )
    wide = {name: x.float() for name, x in rounded.items()}
    for one, other in zip(
        both_ways(q, k, v, cu, reach, "triton", **rounded),
        both_ways(q, k, v, cu, reach, "triton", **wide),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("head_dim", [64, 128])
def test_a_long_document_among_short_ones(backend, head_dim):
    rng = random.Random(1)
    lengths = [rng.randrange(300) for _ in range(20)] + [9000] + [rng.randrange(300) for _ in range(20)]
    tokens = sum(lengths) + 77
    q, k, v = inputs(tokens, head_dim=head_dim)
    reach = torch.randn_like(q)
    mine = both_ways(q, k, v, cu_seqlens(lengths, "cuda"), reach, backend, causal=True)
    wide = [x.detach().float().requires_grad_() for x in (q, k, v)]
    exact = both_ways(*wide, cu_seqlens(lengths, "cuda"), reach.float(), "reference", causal=True)
    for a, b in zip(mine, exact, strict=True):
        assert (a - b).norm() <= 5e-3 * b.norm()
        assert not a[-77:].any()


def test_200_runs_give_the_same_bits():
    lengths = [700, 1, 0, 129, 900, 64]
    q, k, v = inputs(sum(lengths))
    reach, cu = torch.randn_like(q), cu_seqlens(lengths, "cuda")
    first = both_ways(q, k, v, cu, reach, "auto", causal=True, deterministic=True)
    for _ in range(200):
        for a, b in zip(
            first, both_ways(q, k, v, cu, reach, "auto", causal=True, deterministic=True), strict=True
        ):
            assert torch.equal(a, b)


def test_forward_and_backward_never_wait_for_the_device(backend):
    q, k, v = inputs(500)
    reach, cu = torch.randn_like(q), cu_seqlens([300, 0, 150], "cuda")
    both_ways(q, k, v, cu, reach, backend, causal=True)
    cu = cu_seqlens([100, 200, 150], "cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        both_ways(q, k, v, cu, reach, backend, causal=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_captured_graph_serves_other_lengths_of_the_same_total(backend):
    q, k, v = inputs(700)
    reach, cu = torch.randn_like(q), cu_seqlens([300, 100, 290], "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            both_ways(q, k, v, cu, reach, backend, causal=True)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both_ways(q, k, v, cu, reach, backend, causal=True)
    for lengths in ([1, 500, 99], [0, 0, 700], [690, 5, 0]):
        cu.copy_(cu_seqlens(lengths, "cuda"))
        for x in captured:
            x.fill_(float("nan"))
        graph.replay()
        expected = both_ways(q, k, v, cu_seqlens(lengths, "cuda"), reach, backend, causal=True)
        for a, b in zip(captured, expected, strict=True):
            assert (a - b).float().norm() <= 1e-3 * b.float().norm()
            assert not a.isnan().any()


def test_it_compiles_whole_with_inductor(backend):
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def block(q, k, v, cu):
        return varlen_attention(q * 2, k, v.relu(), cu, causal=True, backend=backend).sigmoid()

    for lengths in ([100, 28], [1, 127], [60, 60]):
        q, k, v = inputs(128)
        cu = cu_seqlens(lengths, "cuda")
        out = block(q, k, v, cu)
        plain = varlen_attention(q * 2, k, v.relu(), cu, causal=True, backend=backend).sigmoid()
        assert torch.allclose(out, plain, atol=1e-2)
        for a, b in zip(
            torch.autograd.grad(out.sum(), (q, k, v)),
            torch.autograd.grad(plain.sum(), (q, k, v)),
            strict=True,
        ):
            assert (a - b).float().norm() <= 2e-2 * b.float().norm()


def test_rows_past_two_to_the_31_elements(backend):
    tokens, heads = 2**31 // (64 * 128) + 300, 64
    q = torch.zeros(tokens, heads, 128, device="cuda", dtype=torch.bfloat16)
    q[-300:] = torch.randn(300, heads, 128, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(tokens, 1, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    bounds = Boundaries.from_document_ids(torch.arange(tokens, device="cuda") // 300 + 1, causal=True)
    out = varlen_attention(q, k, v, bounds, backend=backend)
    first = tokens // 300 * 300
    tail = varlen_attention(
        q[first:], k[first:], v[first:], cu_seqlens([tokens - first], "cuda"), causal=True, backend=backend
    )
    assert (out[first:] - tail).float().norm() <= 1e-2 * tail.float().norm()


def test_float32_goes_through_the_reference_and_is_exact():
    q, k, v = (torch.randn(50, 2, 32, device="cuda") for _ in range(3))
    cu = cu_seqlens([20, 30], "cuda")
    assert torch.equal(varlen_attention(q, k, v, cu), varlen_attention(q, k, v, cu, backend="reference"))
