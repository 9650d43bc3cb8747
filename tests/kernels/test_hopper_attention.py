"""The Hopper kernels of packed attention against plain PyTorch in float32, forward and all gradients, on a GPU."""

import math
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from tersely.kernels.attention.hopper import launch as hopper

pytestmark = pytest.mark.gpu


@dataclass(frozen=True)
class Case:
    """Lengths of the documents' queries and keys, rows past the last document, heads, and what each query sees."""

    lengths: list
    key_lengths: list | None = None  # None: the queries' own
    slack: int = 0
    heads: tuple = (2, 2)
    D: int = 128
    dtype: torch.dtype = torch.bfloat16
    causal: bool = True
    window: int | None = None  # keys back, with the query's own
    sink: bool = False
    layout: str = "plain"
    mean_length: float | None = None
    seed: int = field(default=0, compare=False)

    def __str__(self):
        kind = f"{'causal' if self.causal else 'full'}{f' window {self.window}' if self.window else ''}"
        cross = " cross" if self.key_lengths else ""
        extras = f"{' sink' if self.sink else ''}{' ' + self.layout if self.layout != 'plain' else ''}"
        return (
            f"{len(self.lengths)} documents of {sum(self.lengths)}+{self.slack}{cross} heads {self.heads} D {self.D} "
            f"{str(self.dtype)[6:]} {kind}{extras}{' short' if self.mean_length else ''}"
        )


ODD = [127, 1, 1, 127, 128, 129, 0, 64, 63, 65, 1, 0, 300]
RANDOM = [random.Random(3).choice([0, 1, 2, 17, 127, 128, 129, 200, 511, 513, 900]) for _ in range(14)]
CASES = [
    *[Case(lengths, slack=slack, D=D, causal=causal) for D in (128, 64) for causal in (True, False)
      for lengths, slack in ((ODD, 0), ([5], 0), ([1] * 150 + [700, 0, 3], 45), (RANDOM, 7), ([0, 0, 40], 200),
                             ([1300, 2, 1301], 0))],
    *[Case(RANDOM, slack=3, D=D, heads=heads) for D in (128, 64) for heads in ((4, 1), (6, 2), (8, 8))],
    *[Case(RANDOM, D=D, dtype=torch.float16, sink=True) for D in (128, 64)],
    *[Case(RANDOM, slack=9, D=D, window=w) for D in (128, 64) for w in (1, 100)],
    *[Case([700, 300], D=D, causal=False, window=77) for D in (128, 64)],
    *[Case([300, 1, 0, 200, 77, 40], key_lengths=[100, 7, 30, 513, 0, 41], slack=5, D=D, causal=causal)
      for D in (128, 64) for causal in (True, False)],
    *[Case(ODD, D=D, layout=layout, heads=(4, 2)) for D in (128, 64) for layout in ("qkv", "heads first", "odd")],
    *[Case(ODD + RANDOM, D=D, mean_length=100.0, causal=causal) for D in (128, 64) for causal in (True, False)],
]  # fmt: skip


def bounds_of(lengths, key_lengths, Tq, Tk, causal=True, window=None, device="cuda"):
    """The vectors of the mask, document by document in plain Python."""
    key_start, key_stop, query_start, query_stop = [], [], [], []
    oq = ok = 0
    for nq, nk in zip(lengths, key_lengths, strict=True):
        shift = nk - nq  # the last query stands with the last key
        for i in range(nq):
            start = max(0, min(nk, i + shift - window + 1)) if window else 0
            stop = max(start, min(nk, i + shift + 1)) if causal else nk
            key_start.append(ok + start)
            key_stop.append(ok + stop)
        for j in range(nk):
            start = max(0, min(nq, j - shift)) if causal else 0
            stop = max(start, min(nq, j - shift + window)) if window else nq
            query_start.append(oq + start)
            query_stop.append(oq + stop)
        oq += nq
        ok += nk
    key_start += [ok] * (Tq - oq)
    key_stop += [ok] * (Tq - oq)
    query_start += [oq] * (Tk - ok)
    query_stop += [oq] * (Tk - ok)
    vectors = [
        torch.tensor(x, dtype=torch.int32, device=device)
        for x in (key_start, key_stop, query_start, query_stop)
    ]
    names = ("key_start", "key_stop", "query_start", "query_stop")
    orders = [torch.randperm(-(-n // 128)).to(device, torch.int32) for n in (Tq, Tk)]  # any order is right
    return SimpleNamespace(
        **dict(zip(names, vectors, strict=True)), query_tiles=orders[0], key_tiles=orders[1]
    )


def naive(q, k, v, bounds, scale, sink=None):
    """Dense attention in the dtype of q."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    s = torch.einsum("qhd,khd->hqk", q, k) * scale
    key = torch.arange(k.shape[0], device=q.device)
    seen = (key >= bounds.key_start[:, None]) & (key < bounds.key_stop[:, None])
    s = s.masked_fill(~seen, -torch.inf)
    if sink is not None:
        s = torch.cat([s, sink.to(s.dtype)[:, None, None].expand(-1, s.shape[1], 1)], 2)
    lse = s.float().logsumexp(2)
    p = torch.where(seen.any(1)[None, :, None], s, 0.0).softmax(2)
    p = torch.where(seen, p[..., : k.shape[0]], 0.0)
    return torch.einsum("hqk,khd->qhd", p.to(v.dtype), v), lse


def gradients(q, k, v, bounds, scale, sink, dout, dtype):
    leaves = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
    out, lse = naive(*leaves, bounds, scale, sink)
    out.backward(dout.to(dtype))
    return [out.detach(), *(x.grad for x in leaves)], lse


def tensors(case, Tq, Tk, generator):
    """Queries, keys, values and the output's gradient, in the case's layout in memory."""
    (H, Hkv), D = case.heads, case.D

    def draw(*shape):
        return torch.randn(*shape, generator=generator, device="cuda").to(case.dtype)

    if case.layout == "qkv":
        qkv = draw(Tq, H + 2 * Hkv, D)
        q, k, v = qkv.split([H, Hkv, Hkv], 1)
    elif case.layout == "heads first":
        q, k, v = (draw(h, t, D).transpose(0, 1) for h, t in ((H, Tq), (Hkv, Tk), (Hkv, Tk)))
    elif case.layout == "odd":
        q, k, v = (draw(t, h, D + 4)[..., :D] for h, t in ((H, Tq), (Hkv, Tk), (Hkv, Tk)))
    else:
        q, k, v = draw(Tq, H, D), draw(Tk, Hkv, D), draw(Tk, Hkv, D)
    return q, k, v, draw(Tq, H, D)


def poison():
    """Fill the allocator's free blocks with NaN, so that what a kernel leaves unwritten is seen."""
    for size in (2**10, 2**14, 2**16, 2**18, 2**20, 2**22):
        [torch.full((size,), torch.nan, device="cuda") for _ in range(8)]


def check(case):
    """Run a case; returns the largest error of out, dq, dk, dv as a multiple of the naive computation's."""
    torch.manual_seed(case.seed)
    generator = torch.Generator("cuda").manual_seed(case.seed)
    key_lengths = case.key_lengths or case.lengths
    Tq = sum(case.lengths) + case.slack
    Tk = sum(key_lengths) + case.slack
    bounds = bounds_of(case.lengths, key_lengths, Tq, Tk, case.causal, case.window)
    q, k, v, dout = tensors(case, Tq, Tk, generator)
    scale = 1 / math.sqrt(case.D)
    sink = torch.randn(case.heads[0], generator=generator, device="cuda") if case.sink else None
    exact, lse_exact = gradients(q, k, v, bounds, scale, sink, dout, torch.float32)
    rough, _ = gradients(q, k, v, bounds, scale, sink, dout, case.dtype)
    poison()
    out, lse = hopper.forward(q, k, v, bounds, scale=scale, sink=sink, mean_length=case.mean_length)
    poison()
    got = [out, *hopper.backward(dout, q, k, v, out, lse, bounds, scale=scale)]
    torch.testing.assert_close(lse, lse_exact, atol=2e-3, rtol=1e-3)
    ratios = []
    for name, x, e, r in zip(("out", "dq", "dk", "dv"), got, exact, rough, strict=True):
        assert x.isfinite().all(), f"{name} is not finite everywhere"
        error, allowed = (x - e).abs().max().item(), (r - e).abs().max().item()
        ratios.append(error / max(allowed, 1e-5))
        assert error <= 2 * allowed + 1e-4, f"{name}: error {error:.2e}, naive {allowed:.2e}"
    return ratios


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_plain_attention_as_well_as_half_precision_can(case):
    check(case)
