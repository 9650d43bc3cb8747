"""Packed attention against dense attention over whole masks: values and all gradients, every option."""

import pytest
import torch
import torch._dynamo.testing
from dense import cu_seqlens, dense_attention, document_mask

from tersely.errors import KernelError
from tersely.kernels import Backend, Boundaries, varlen_attention
from tersely.kernels.attention import backend

LENGTHS = {
    "edges": [127, 1, 0, 65, 64, 63],
    "one token": [1],
    "one document": [200],
    "single tokens": [1] * 40,
    "empty": [0, 0],
}
OPTIONS = {
    "causal": dict(causal=True),
    "full": dict(),
    "window": dict(causal=True, window=(17, -1)),
    "band": dict(window=(5, 70)),
    "softcap": dict(causal=True, softcap=1.5),
    "gate": dict(causal=True, gate=True),
    "sink": dict(causal=True, sink=True),
    "plus one": dict(plus_one=True),
    "all": dict(causal=True, window=(30, -1), softcap=2.0, gate=True, sink=True, scale=0.3),
}


def dtypes(place):
    return [torch.bfloat16, torch.float16] if place.device == "cuda" else [torch.float32]


def batch(tokens, tokens_k, heads, head_dim, dtype, device, options, seed=0):
    """Inputs, the options with their tensors, and all that is differentiated."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, dtype=dtype):
        return torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()

    q, k, v = (
        draw(tokens, heads[0], head_dim),
        draw(tokens_k, heads[1], head_dim),
        draw(tokens_k, heads[1], head_dim),
    )
    options = dict(options)
    if options.get("gate"):
        options["gate"] = draw(tokens_k, dtype=torch.float32)
    if options.get("sink"):
        options["sink"] = draw(heads[0], dtype=torch.float32)
    leaves = [q, k, v, *(options[name] for name in ("gate", "sink") if torch.is_tensor(options.get(name)))]
    return q, k, v, options, leaves


def dense(q, k, v, options, seen, wide=torch.float64):
    """Dense attention, differentiable, of copies in another dtype."""
    leaves = [x.detach().cpu().to(wide).requires_grad_() for x in (q, k, v)]
    extra = {
        name: options[name].detach().cpu().to(wide).requires_grad_()
        for name in ("gate", "sink")
        if torch.is_tensor(options.get(name))
    }
    leaves += extra.values()
    if options.get("plus_one"):
        extra["sink"] = torch.zeros(q.shape[1], dtype=wide)
    scale = options.get("scale", q.shape[2] ** -0.5)
    out, lse = dense_attention(
        *leaves[:3], seen, scale, options.get("softcap", 0.0), extra.get("gate"), extra.get("sink")
    )
    return out, lse, leaves


def assert_as_good(mine, exact, naive, what):
    """No further from the exact result than twice a naive computation in the same dtype is."""
    mine, exact, naive = mine.detach().cpu().double(), exact.detach().double(), naive.detach().double()
    assert not mine.isnan().any(), what
    if not exact.numel():
        return
    finite = exact.isfinite()
    assert torch.equal(finite, mine.isfinite()), what
    mine, exact, naive = (torch.where(finite, x, 0.0) for x in (mine, exact, naive))
    allowed = 2 * (naive - exact).abs().max() + 1e-5 * (1 + exact.abs().max())
    assert (mine - exact).abs().max() <= allowed, f"{what}: {(mine - exact).abs().max()} > {allowed}"


def only_if_supported(place, q, k, v, options):
    """Skips what Hopper's own kernels leave to the portable ones; checks that it is refused by name."""
    if place.backend == "hopper":
        call = dict(softcap=options.get("softcap", 0.0), gated="gate" in options, tree="tree" in options)
        why = backend.why_not(Backend.HOPPER, q, k, v, **call)
        if why is not None:
            pytest.skip(why)


def compare(place, lengths, lengths_k, options, heads=(4, 2), head_dim=None, slack=3):
    head_dim = head_dim or (64 if place.backend == "hopper" else 32)
    for dtype in dtypes(place):
        tokens, tokens_k = sum(lengths) + slack, sum(lengths_k) + slack
        q, k, v, given, leaves = batch(tokens, tokens_k, heads, head_dim, dtype, place.device, options)
        only_if_supported(place, q, k, v, options)
        cross = [] if lengths == lengths_k else [cu_seqlens(lengths_k, place.device)]
        out, lse = varlen_attention(
            q,
            k,
            v,
            cu_seqlens(lengths, place.device),
            *cross,
            return_lse=True,
            backend=place.backend,
            **given,
        )
        seen = document_mask(
            lengths,
            lengths_k,
            tokens,
            tokens_k,
            options.get("causal", False),
            options.get("window", (-1, -1)),
        )
        finish(place, dtype, q, k, v, given, leaves, out, lse, seen)


def finish(place, dtype, q, k, v, given, leaves, out, lse, seen):
    exact, exact_lse, exact_leaves = dense(q, k, v, given, seen)
    naive, naive_lse, naive_leaves = dense(q, k, v, given, seen, dtype)
    assert_as_good(out, exact, naive, "out")
    assert_as_good(lse, exact_lse, naive_lse, "lse")
    reach, reach_lse = torch.randn(out.shape), torch.randn(lse.shape)
    reach_lse = torch.where(exact_lse.isfinite(), reach_lse, 0.0)

    def gradients(out, lse, leaves):
        told = (reach.to(out.device, out.dtype) * out).sum()
        told = told + (reach_lse.to(lse.device, lse.dtype) * torch.where(lse.isfinite(), lse, 0.0)).sum()
        return torch.autograd.grad(told, leaves)

    mine = gradients(out, lse, leaves)
    for name, a, b, c in zip(
        ("dq", "dk", "dv", "extra", "extra"), mine, gradients(exact, exact_lse, exact_leaves),
        gradients(naive, naive_lse, naive_leaves), strict=False,
    ):  # fmt: skip
        assert_as_good(a, b, c, name)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_gives_what_dense_attention_gives(place, options):
    compare(place, LENGTHS["edges"], LENGTHS["edges"], options)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_odd_documents_give_what_dense_attention_gives(place, lengths):
    compare(place, lengths, lengths, dict(causal=True), slack=0)


@pytest.mark.parametrize("causal", [False, True])
def test_cross_attention_ends_at_the_last_key(place, causal):
    compare(place, [5, 0, 70, 3, 1], [9, 4, 64, 0, 130], dict(causal=causal))


@pytest.mark.parametrize("heads", [(1, 1), (8, 1), (6, 3)])
def test_query_heads_share_key_heads(place, heads):
    compare(place, [50, 30], [50, 30], dict(causal=True), heads=heads)


@pytest.mark.parametrize("head_dim", [16, 40, 64, 96, 128, 256])
def test_head_dimensions(place, head_dim):
    compare(place, [70, 9], [70, 9], dict(causal=True), heads=(2, 1), head_dim=head_dim)


@pytest.mark.parametrize("options", [dict(), dict(softcap=1.5, gate=True, sink=True)], ids=["plain", "all"])
def test_branches_of_a_tree_see_their_trunk_and_not_each_other(place, options):
    ends = [160] * 70 + [110] * 40 + [111] + [160] * 9 + [150] * 30 + [160] * 10 + [165] * 5 + [165]
    ends[-1] = 165  # a last token outside all: slack
    for dtype in dtypes(place):
        q, k, v, given, leaves = batch(len(ends), len(ends), (4, 2), 64, dtype, place.device, options)
        only_if_supported(place, q, k, v, options | dict(tree=True))
        bounds = Boundaries.from_tree(torch.tensor(ends, device=place.device))
        seen = torch.tensor([[k <= q < ends[k] for k in range(len(ends))] for q in range(len(ends))])
        out, lse = varlen_attention(q, k, v, bounds, return_lse=True, backend=place.backend, **given)
        finish(place, dtype, q, k, v, given, leaves, out, lse, seen)


def test_a_packed_projection_is_read_in_place(place):
    dtype = dtypes(place)[0]
    qkv = torch.randn(90, 3, 4, 64, device=place.device, dtype=dtype)
    cu = cu_seqlens([60, 30], place.device)
    whole = varlen_attention(*(x.contiguous() for x in qkv.unbind(1)), cu, causal=True, backend=place.backend)
    assert torch.equal(varlen_attention(*qkv.unbind(1), cu, causal=True, backend=place.backend), whole)


@pytest.mark.parametrize(
    "spread", [lambda x: torch.stack([x, x + 9], 1)[:, 0], lambda x: x[:1].expand(len(x))]
)
def test_gates_and_sinks_with_gaps_in_memory_are_read_rightly(place, spread):
    if place.backend == "hopper":
        pytest.skip("the Hopper kernels take no gates")
    q, k, v, given, leaves = batch(
        90, 90, (2, 2), 32, dtypes(place)[0], place.device, dict(gate=True, sink=True)
    )
    cu = cu_seqlens([60, 30], place.device)
    spread_out = {name: spread(x.detach()) for name, x in given.items()}
    assert not any(x.is_contiguous() for x in spread_out.values())
    results = []
    for extra in (spread_out, {name: x.contiguous() for name, x in spread_out.items()}):
        out = varlen_attention(q, k, v, cu, backend=place.backend, **extra)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves[:3])])
    for mine, plain in zip(*results, strict=True):
        assert torch.equal(mine, plain)


def test_heads_in_any_order_in_memory_are_read_rightly(place):
    dtype = dtypes(place)[0]
    q, k, v = (torch.randn(2, 90, 64, device=place.device, dtype=dtype) for _ in range(3))
    cu = cu_seqlens([60, 30], place.device)
    turned = [x.transpose(0, 1).requires_grad_() for x in (q, k, v)]
    plain = [x.transpose(0, 1).contiguous().requires_grad_() for x in (q, k, v)]
    one, other = (varlen_attention(*x, cu, causal=True, backend=place.backend) for x in (turned, plain))
    assert torch.equal(one, other)
    reach = torch.randn(2, 90, 64, device=place.device, dtype=dtype).transpose(0, 1)
    for a, b in zip(
        torch.autograd.grad(one, turned, reach), torch.autograd.grad(other, plain, reach), strict=True
    ):
        assert torch.equal(a, b)


def test_no_tokens_give_no_tokens(place):
    dtype = dtypes(place)[0]
    q, k, v = (torch.randn(0, 2, 64, device=place.device, dtype=dtype, requires_grad=True) for _ in range(3))
    out = varlen_attention(q, k, v, cu_seqlens([], place.device), backend=place.backend)
    assert out.shape == (0, 2, 64)
    assert torch.autograd.grad(out.sum(), q)[0].shape == (0, 2, 64)


def test_queries_without_any_keys_are_zero(place):
    dtype = dtypes(place)[0]
    q = torch.randn(4, 2, 64, device=place.device, dtype=dtype, requires_grad=True)
    k = torch.randn(0, 2, 64, device=place.device, dtype=dtype, requires_grad=True)
    cu = cu_seqlens([4], place.device), cu_seqlens([0], place.device)
    out, lse = varlen_attention(q, k, k, *cu, plus_one=True, return_lse=True, backend=place.backend)
    assert not out.any()
    assert not lse.any()
    assert not torch.autograd.grad(out.sum(), q)[0].any()


def test_the_reference_has_exact_gradients():
    *_, leaves = batch(12, 12, (2, 1), 4, torch.float64, "cpu", dict(gate=True, sink=True))

    def run(q, k, v, gate, sink):
        return varlen_attention(
            q,
            k,
            v,
            cu_seqlens([7, 0, 4]),
            causal=True,
            softcap=2.0,
            gate=gate.double(),
            sink=sink,
            return_lse=False,
        )

    double = [x.detach().double().requires_grad_() for x in leaves]
    assert torch.autograd.gradcheck(run, double)


def test_the_operator_is_registered_as_torch_asks():
    from tersely.kernels.attention.operator import attention

    bounds = Boundaries.from_cu_seqlens(cu_seqlens([5, 3]), 9, causal=True)
    q, k, v, given, _ = batch(9, 9, (2, 1), 8, torch.float32, "cpu", dict(gate=True, sink=True))
    for gate, sink in ((None, None), (given["gate"], given["sink"])):
        torch.library.opcheck(
            attention.overload,
            (
                q, k, v, bounds.key_start, bounds.key_stop, bounds.query_start, bounds.query_stop, bounds.query_tiles,
                bounds.key_tiles, False, 2, gate, sink, 0.5, 0.0, False, "reference",
            ),
        )  # fmt: skip


@pytest.mark.parametrize("layers", [2])
def test_it_compiles_without_graph_breaks_and_once_for_all_lengths(layers):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    @torch.compile(backend=counter, fullgraph=True, dynamic=None)
    def run(q, k, v, cu):
        for _ in range(layers):
            q = q + varlen_attention(q, k, v, cu, causal=True)
        return q

    for lengths in ([5, 11], [9, 7], [2, 14]):
        q, k, v = (torch.randn(16, 2, 8, requires_grad=True) for _ in range(3))
        out = run(q, k, v, cu_seqlens(lengths))
        expected = q
        for _ in range(layers):
            expected = expected + varlen_attention(expected, k, v, cu_seqlens(lengths), causal=True)
        assert torch.allclose(out, expected, atol=1e-5)
        for a, b in zip(
            torch.autograd.grad(out.sum(), (q, k, v)),
            torch.autograd.grad(expected.sum(), (q, k, v)),
            strict=True,
        ):
            assert torch.allclose(a, b, atol=1e-5)
    assert counter.frame_count == 1


def test_boundaries_change_when_the_numbers_in_cu_seqlens_change():
    q, k, v = (torch.randn(8, 1, 8) for _ in range(3))
    cu = cu_seqlens([5, 3])
    before = varlen_attention(q, k, v, cu)
    cu[1] = 2
    after = varlen_attention(q, k, v, cu)
    assert torch.equal(after, varlen_attention(q, k, v, cu_seqlens([2, 6])))
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (dict(q=torch.zeros(4, 2)), "must be .tokens, heads, head dimension"),
        (dict(k=torch.zeros(8, 3, 8), v=torch.zeros(8, 3, 8)), "no multiple of 3 key heads"),
        (dict(v=torch.zeros(8, 2, 8, dtype=torch.float64)), "one floating dtype"),
        (dict(k=torch.zeros(7, 2, 8), v=torch.zeros(7, 2, 8)), "give cu_seqlens_k"),
        (dict(sink=torch.zeros(3)), "one logit for each head"),
        (dict(sink=torch.zeros(2), plus_one=True), "not both"),
        (dict(gate=torch.zeros(3)), "one number for each key"),
        (dict(scale=0.0), "must be positive"),
        (dict(softcap=-1.0), "not negative"),
        (dict(backend="fast"), "choose one of"),
        (dict(backend="hopper"), "cannot run this call"),
        (dict(cu_seqlens_q=Boundaries.from_tree(torch.tensor([8] * 8)), causal=True), "give them alone"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_a_sentence(change, why):
    given = dict(
        q=torch.zeros(8, 2, 8), k=torch.zeros(8, 2, 8), v=torch.zeros(8, 2, 8), cu_seqlens_q=cu_seqlens([8])
    )
    with pytest.raises((KernelError, ValueError), match=why):
        varlen_attention(**given | change)
