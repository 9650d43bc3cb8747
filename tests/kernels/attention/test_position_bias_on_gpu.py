"""What only a GPU can show of a bias by distance: bf16 at length, the same bits, captured graphs, compiled models."""

import pytest
import torch
from dense import cu_seqlens

from tersely.kernels import varlen_attention

pytestmark = pytest.mark.gpu
LENGTHS = [700, 1, 0, 129, 900, 64, 2000]
NAMES = ("out", "dq", "dk", "dv", "dbias", "dgate")


def inputs(head_dim, lengths=LENGTHS, heads=(6, 6), slack=77):
    generator = torch.Generator().manual_seed(0)
    places = [torch.randperm(2 * n + 1, generator=generator)[:n].sort().values for n in lengths]
    places = torch.cat([*places, torch.zeros(slack, dtype=torch.int64)]).int().cuda()
    tokens = len(places)
    q, k, v = (
        torch.randn(tokens, h, head_dim, generator=generator).cuda().bfloat16().requires_grad_()
        for h in (heads[0], heads[1], heads[1])
    )
    bias = torch.randn(heads[0], 257, generator=generator).cuda().requires_grad_()
    gate = torch.randn(tokens, generator=generator).cuda().requires_grad_()
    return [q, k, v, bias, gate], places, torch.randn(q.shape, generator=generator).cuda().bfloat16()


def both_ways(leaves, places, reach, cu, **options):
    q, k, v, bias, gate = leaves
    out = varlen_attention(
        q, k, v, cu, bias=bias, positions=(places, places), gate=gate, plus_one=True, **options
    )
    return out, *torch.autograd.grad(out, leaves, reach)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("head_dim", "heads"), [(64, (6, 6)), (128, (4, 2)), (256, (2, 2))])
def test_long_documents_are_as_the_reference_says(head_dim, heads, causal):
    leaves, places, reach = inputs(head_dim, heads=heads)
    cu = cu_seqlens(LENGTHS, "cuda")
    mine = both_ways(leaves, places, reach, cu, causal=causal, backend="triton")
    wide = [x.detach().float().requires_grad_() for x in leaves]
    exact = both_ways(wide, places, reach.float(), cu, causal=causal, backend="reference")
    for name, a, b in zip(NAMES, mine, exact, strict=True):
        assert (a - b).norm() <= 1e-2 * b.norm(), name


def test_the_same_bits_in_every_run():
    leaves, places, reach = inputs(64)
    cu = cu_seqlens(LENGTHS, "cuda")
    first = both_ways(leaves, places, reach, cu)
    for _ in range(50):
        for a, b in zip(first, both_ways(leaves, places, reach, cu), strict=True):
            assert torch.equal(a, b)


def test_a_captured_graph_serves_other_lengths_and_positions():
    leaves, places, reach = inputs(64)
    cu = cu_seqlens(LENGTHS, "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            both_ways(leaves, places, reach, cu)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both_ways(leaves, places, reach, cu)
    other = [900, 700, 64, 0, 1, 2000, 129]
    places.copy_(torch.cat([*(torch.arange(n) for n in other), torch.zeros(77, dtype=torch.int64)]))
    cu.copy_(cu_seqlens(other, "cuda"))
    graph.replay()
    for name, a, b in zip(NAMES, captured, both_ways(leaves, places, reach, cu), strict=True):
        assert torch.equal(a, b), name


def test_it_compiles_whole_with_inductor():
    leaves, places, reach = inputs(64, [100, 28], slack=0)
    cu = cu_seqlens([100, 28], "cuda")
    buckets = torch.randint(0, 32, (257,), device="cuda")
    learned = torch.randn(32, 6, device="cuda", requires_grad=True)

    def run(q, k, v, learned, cu):
        return varlen_attention(q, k, v.relu(), cu, bias=learned[buckets].T, positions=(places, places)) * 2

    given = [*leaves[:3], learned]
    outs = [call(*given, cu) for call in (torch.compile(run, fullgraph=True), run)]
    for a, b in zip(*(torch.autograd.grad(out, given, reach) for out in outs), strict=True):
        assert (a - b).float().norm() <= 2e-2 * b.float().norm()
