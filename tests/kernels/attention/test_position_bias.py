"""Relative position bias in packed attention against one padded softmax in fp64, gradients by torch's autograd."""

import pytest
import torch
from dense import cu_seqlens
from places import Place

from tersely.errors import KernelError
from tersely.kernels import Backend, Boundaries, varlen_attention
from tersely.kernels.attention import backend as backends

CASES = {
    "edges": ([70, 1, 0, 50], None, 9, dict()),
    "causal": ([40, 1, 0, 30], None, 200, dict(causal=True)),
    "one token": ([1], None, 3, dict(causal=True)),
    "empty": ([0, 0], None, 3, dict()),
    "all that is added": ([70, 0, 20], None, 16, dict(gate=True, plus_one=True)),
    "sinks, caps and a window": ([50, 7], None, 20, dict(gate=True, sink=True, softcap=1.5, window=(40, 30))),
    "cross": ([5, 0, 40, 3], [9, 4, 60, 0], 30, dict(plus_one=True)),
    "no distance but 0": ([20, 3], None, 0, dict()),
    "far": ([110, 1], None, 2, dict()),
}
SLACK = 3
CPU = Place("cpu", "reference")


def gapped(lengths, tokens, generator, stretch=3):
    """Positions of the tokens that are left of documents ``stretch`` times as long."""
    kept = [torch.randperm(stretch * n + 1, generator=generator)[:n].sort().values for n in lengths]
    return torch.cat([*kept, torch.zeros(tokens - sum(lengths), dtype=torch.int64)])


def padded_attention(q, k, v, lengths, lengths_k, bias, positions, scale, options):
    """One document for each row of a batch, padded to the longest; ``(Tq, H, D)``, slack rows are 0."""
    longest, longest_k = max(lengths, default=0), max(lengths_k, default=0)
    group = q.shape[1] // k.shape[1]

    def pad(x, sizes, width):
        rows = [torch.nn.functional.pad(part, (0, 0) * (x.dim() - 1) + (0, width - len(part)))
                for part in x[: sum(sizes)].split(sizes)]  # fmt: skip
        return torch.stack(rows)

    queries = pad(q, lengths, longest).transpose(1, 2)
    keys, values = (pad(x.repeat_interleave(group, 1), lengths_k, longest_k).transpose(1, 2) for x in (k, v))
    x = queries @ keys.transpose(2, 3) * scale
    if options.get("softcap"):
        x = options["softcap"] * torch.tanh(x / options["softcap"])
    far = bias.shape[1] // 2
    place, place_k = pad(positions[0], lengths, longest), pad(positions[1], lengths_k, longest_k)
    distance = (place_k[:, None] - place[:, :, None]).clamp(-far, far) + far
    x = x + bias[:, distance].transpose(0, 1)
    if torch.is_tensor(options.get("gate")):
        x = x + pad(options["gate"], lengths_k, longest_k)[:, None, None]
    number, number_k = torch.tensor(lengths)[:, None, None], torch.tensor(lengths_k)[:, None, None]
    own = torch.arange(longest)[None, :, None] + number_k - number
    key = torch.arange(longest_k)
    left, right = options.get("window", (-1, -1))
    seen = (key < number_k) & (key >= own - left if left >= 0 else key >= 0)
    if options.get("causal") or right >= 0:
        seen = seen & (key <= own + max(right, 0))
    x = x.masked_fill(~seen[:, None], -torch.inf)
    if torch.is_tensor(options.get("sink")):
        x = torch.cat([x, options["sink"][None, :, None, None].expand(*x.shape[:3], 1)], -1)
    p = x.softmax(-1).nan_to_num(0.0)[..., :longest_k]
    out = (p @ values).transpose(1, 2)
    packed = torch.cat([row[:n] for row, n in zip(out, lengths, strict=True)])
    return torch.cat([packed, packed.new_zeros(len(q) - len(packed), *packed.shape[1:])])


def batch(place, dtype, lengths, lengths_k, far, options, heads=(2, 1), head_dim=32):
    """Inputs, positions, options with their tensors, and all that is differentiated."""
    generator = torch.Generator().manual_seed(0)
    tokens, tokens_k = sum(lengths) + SLACK, sum(lengths_k) + SLACK

    def draw(*shape, dtype=dtype):
        return torch.randn(shape, generator=generator).to(place.device, dtype).requires_grad_()

    q, k, v = (draw(t, h, head_dim) for t, h in ((tokens, heads[0]), *[(tokens_k, heads[1])] * 2))
    bias = draw(heads[0], 2 * far + 1, dtype=torch.float32)
    positions = gapped(lengths_k, tokens_k, generator)
    positions = (positions if lengths_k is lengths else gapped(lengths, tokens, generator), positions)
    options = dict(options)
    if options.get("gate"):
        options["gate"] = draw(tokens_k, dtype=torch.float32)
    if options.get("sink"):
        options["sink"] = draw(heads[0], dtype=torch.float32)
    leaves = [q, k, v, bias, *(options[name] for name in ("gate", "sink") if name in options)]
    return q, k, v, bias, positions, options, leaves


def attended(place, q, k, v, lengths, lengths_k, **options):
    cross = [] if lengths_k is lengths else [cu_seqlens(lengths_k, place.device)]
    return varlen_attention(
        q, k, v, cu_seqlens(lengths, place.device), *cross, backend=place.backend, **options
    )


def compare(place, dtype, lengths, lengths_k, far, options, **shape):
    if place.backend == "hopper":
        pytest.skip("position biases are in the portable kernels only")
    lengths_k = lengths_k or lengths
    q, k, v, bias, positions, options, leaves = batch(place, dtype, lengths, lengths_k, far, options, **shape)
    moved = tuple(x.to(place.device, torch.int32) for x in positions)
    out = attended(place, q, k, v, lengths, lengths_k, bias=bias, positions=moved, **options)
    reach = torch.randn(out.shape).to(place.device, out.dtype)
    mine = [out, *torch.autograd.grad(out, leaves, reach)]

    wide = [x.detach().cpu().double().requires_grad_() for x in leaves]
    names = ("gate", "sink")
    extra = dict(zip([name for name in names if name in options], wide[4:], strict=True))
    if options.get("plus_one"):
        extra["sink"] = torch.zeros(q.shape[1], dtype=torch.float64)
    exact = padded_attention(
        *wide[:3], lengths, lengths_k, wide[3], positions, q.shape[2] ** -0.5, options | extra
    )
    expected = [exact, *torch.autograd.grad(exact, wide, reach.cpu().double())]
    tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-12 if dtype is torch.float64 else 2e-5
    for name, a, b in zip(("out", "dq", "dk", "dv", "dbias", "extra", "extra"), mine, expected, strict=False):
        assert not a.isnan().any(), name
        assert a.dtype == (dtype if name in ("out", "dq", "dk", "dv") else torch.float32), name
        error = (a.detach().cpu().double() - b).norm()
        size = torch.maximum(b.norm(), 0.3 * reach.norm().cpu().double())  # of sums that may cancel
        allowed = (1e-6 if dtype is torch.float64 and a.dtype is torch.float32 else tolerance) * size
        assert error <= allowed + 1e-12, f"{name}: {error} > {allowed}"


def dtype_of(place):
    return torch.bfloat16 if place.device == "cuda" else torch.float32


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_a_padded_softmax(place, case):
    compare(place, dtype_of(place), *case)


@pytest.mark.parametrize(("heads", "head_dim"), [((6, 3), 24), ((2, 2), 64)])
def test_heads_have_tables_of_their_own(place, heads, head_dim):
    compare(place, dtype_of(place), [20, 30], None, 16, dict(plus_one=True), heads=heads, head_dim=head_dim)


def test_branches_of_a_tree_have_distances_too(place):
    if place.backend == "hopper":
        pytest.skip("position biases are in the portable kernels only")
    ends = torch.tensor([90] * 30 + [60] * 30 + [90] * 30 + [91])
    depths = torch.cat([torch.arange(60), torch.arange(30, 60), torch.zeros(1, dtype=torch.int64)])
    q, k, v, bias, *_ = batch(place, dtype_of(place), [88], [88], 10, {})
    moved = depths.to(place.device)
    out = varlen_attention(
        q,
        k,
        v,
        Boundaries.from_tree(ends.to(place.device)),
        bias=bias,
        positions=(moved, moved),
        backend=place.backend,
    )
    reach = torch.randn(out.shape).to(place.device, out.dtype)
    mine = [out, *torch.autograd.grad(out, (q, k, v, bias), reach)]

    wide = [x.detach().cpu().double().requires_grad_() for x in (q, k, v, bias)]
    token = torch.arange(91)
    seen = (token <= token[:, None]) & (token[:, None] < ends)
    distance = (depths - depths[:, None]).clamp(-10, 10) + 10
    keys, values = (x.repeat_interleave(2, 1) for x in wide[1:3])
    x = torch.einsum("qhd,khd->hqk", wide[0], keys) * q.shape[2] ** -0.5 + wide[3][:, distance]
    exact = torch.einsum("hqk,khd->qhd", x.masked_fill(~seen, -torch.inf).softmax(-1), values)
    for a, b in zip(mine, [exact, *torch.autograd.grad(exact, wide, reach.cpu().double())], strict=True):
        assert (a.cpu().double() - b).norm() <= (2e-2 if place.device == "cuda" else 2e-5) * b.norm()


def test_the_reference_is_exact_in_fp64():
    for case in CASES.values():
        compare(CPU, torch.float64, *case)


def test_the_operators_are_registered_as_torch_asks():
    from tersely.kernels.attention.operator import attention, attention_backward

    bounds = Boundaries.from_cu_seqlens(cu_seqlens([5, 3]), 9)
    vectors = (
        bounds.key_start,
        bounds.key_stop,
        bounds.query_start,
        bounds.query_stop,
        bounds.query_tiles,
        bounds.key_tiles,
    )
    q, k, v, bias, positions, _, _ = batch(CPU, torch.float32, [3, 3], [3, 3], 4, {}, (2, 1), 8)
    settings = (False, 2, None, None, 0.5, 0.0, False, "reference", bias, *positions)
    torch.library.opcheck(attention.overload, (q, k, v, *vectors, *settings))
    out, lse = attention(q, k, v, *vectors, *settings)
    rest = (False, 2, None, 0.5, 0.0, False, "reference", bias.detach(), *positions)
    given = [x.detach() for x in (out, q, k, v, out, lse)]
    torch.library.opcheck(attention_backward.overload, (given[0], None, *given[1:], *vectors, *rest))


def test_it_compiles_whole_and_serves_other_positions():
    def run(q, k, v, bias, cu, *positions):
        return varlen_attention(q, k, v, cu, bias=bias, positions=positions, plus_one=True) * 2

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for lengths in ([10, 20], [30, 0]):
        q, k, v, bias, positions, _, leaves = batch(CPU, torch.float32, lengths, lengths, 4, {})
        cu = cu_seqlens(lengths)
        mine, plain = (call(q, k, v, bias, cu, *positions) for call in (compiled, run))
        gradients = (torch.autograd.grad(out.square().sum(), leaves) for out in (mine, plain))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)


def test_a_bias_leaves_out_the_kernels_that_have_none():
    x = torch.zeros(4, 2, 64, dtype=torch.bfloat16)
    assert backends.why_not(Backend.HOPPER, x, x, x, biased=True) is not None
    with pytest.raises(KernelError, match="position biases"):
        varlen_attention(
            x, x, x, cu_seqlens([4]), backend="torch", bias=torch.zeros(2, 3), positions=PLACES_OF_4
        )


PLACES_OF_4 = (torch.arange(4), torch.arange(4))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (dict(positions=None), "give both, or neither"),
        (dict(bias=None), "give both, or neither"),
        (dict(bias=torch.zeros(3, 5)), "give floats of .2, 2 R . 1."),
        (dict(bias=torch.zeros(2, 4)), "give floats of"),
        (dict(bias=torch.zeros(2, 5, dtype=torch.int32)), "give floats of"),
        (dict(positions=(torch.arange(4), torch.arange(5))), "positions of keys"),
        (dict(positions=(torch.zeros(4), torch.arange(4))), "positions of queries are torch.float32"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_a_sentence(change, why):
    x = torch.zeros(4, 2, 8)
    with pytest.raises(KernelError, match=why):
        varlen_attention(
            x, x, x, cu_seqlens([4]), **dict(bias=torch.zeros(2, 5), positions=PLACES_OF_4) | change
        )
