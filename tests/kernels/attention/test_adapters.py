"""Other libraries behind the same door give what the reference gives."""

import pytest
import torch
from dense import cu_seqlens

from tersely.errors import KernelError
from tersely.kernels import Backend, varlen_attention
from tersely.kernels.attention import adapters

LIBRARIES = [backend for backend in Backend if adapters.is_adapter(backend)]


@pytest.mark.gpu
@pytest.mark.parametrize("options", [dict(causal=True), dict(), dict(causal=True, window=(30, 0))], ids=str)
@pytest.mark.parametrize("backend", LIBRARIES)
def test_a_library_gives_what_the_portable_kernels_give(backend, options):
    if (why := adapters.why_not_installed(backend, torch.device("cuda"))) is not None:
        pytest.skip(why)
    q, k, v = (
        torch.randn(200, h, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for h in (4, 2, 2)
    )
    cu = cu_seqlens([100, 1, 90], "cuda")
    reach = torch.randn(200, 4, 64, device="cuda", dtype=torch.bfloat16)
    results = []
    for chosen in (backend, "triton"):
        out = varlen_attention(q, k, v, cu, backend=chosen, **options)
        results.append((out, *torch.autograd.grad(out, (q, k, v), reach)))
    for mine, other in zip(*results, strict=True):
        assert (mine - other).float().norm() <= 1e-2 * other.float().norm()
        assert not mine[191:].any()


def test_flex_attention_gives_what_the_reference_gives_on_a_cpu():
    q, k, v = (torch.randn(40, h, 16) for h in (4, 2, 2))
    cu = cu_seqlens([17, 0, 20])
    for options in (dict(causal=True), dict(window=(4, 2)), dict(causal=True, softcap=2.0)):
        mine = varlen_attention(q, k, v, cu, backend="flex", **options)
        assert torch.allclose(mine, varlen_attention(q, k, v, cu, backend="reference", **options), atol=1e-5)


@pytest.mark.parametrize(
    ("backend", "options", "why"),
    [
        ("flash_attn_3", {}, "not installed"),
        ("torch", {}, "tensors are on cpu"),
        ("flex", dict(plus_one=True), "knows no sinks"),
        ("flex", dict(return_lse=True), "gives neither lse"),
    ],
)
def test_what_a_library_cannot_do_is_refused_by_name(backend, options, why):
    q = torch.zeros(4, 1, 16)
    with pytest.raises(KernelError, match=why):
        varlen_attention(q, q, q, cu_seqlens([4]), backend=backend, **options)
