"""One call of each operator of packed values, for checks that all of them must pass; by name: function and inputs.

Floats among the inputs want gradients. Layouts hold short, long and empty segments and slack rows.
"""

import torch

from tersely.kernels import (
    compact,
    cross_entropy,
    exponential_smoothing,
    packed_cross_entropy,
    pad,
    rotary,
    scatter_back,
    segment_expand,
    segment_reduce,
    unpad,
)

TOKENS = 430


def boundaries(device="cpu", second=False):
    """Boundaries of six segments in TOKENS rows: one of two sets of the same shape."""
    bounds = [0, 9, 9, 10, 300, 310, 430] if second else [0, 2, 131, 131, 132, 420, 421]
    return torch.tensor(bounds, dtype=torch.int32, device=device)


def calls(device="cpu", backend="auto", dtype=torch.float32, second=False):
    """A dictionary of ``(function, inputs)``; ``second`` gives other inputs of the same shapes."""
    generator = torch.Generator().manual_seed(int(second))

    def floats(*shape):
        return torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()

    cu_seqlens = boundaries(device, second)
    keep = (torch.rand(TOKENS, generator=generator) < 0.5).to(device)
    source = torch.randperm(TOKENS, generator=generator)[:50].to(device)
    tokens, heads = floats(TOKENS, 6), floats(TOKENS, 2, 3)
    found = {
        f"segment_reduce {kind}": (
            lambda values, bounds, kind=kind: segment_reduce(values, bounds, kind, backend=backend),
            [tokens, cu_seqlens],
        )
        for kind in ("sum", "mean", "max")
    }
    found["segment_reduce softmax"] = (
        lambda values, weights, bounds: segment_reduce(values, bounds, "softmax", weights, backend=backend),
        [heads, floats(TOKENS, 2), cu_seqlens],
    )
    found["segment_expand"] = (
        lambda values, bounds: segment_expand(values, bounds, TOKENS, backend=backend),
        [floats(6, 5), cu_seqlens],
    )
    found["exponential_smoothing"] = (
        lambda values, weights, bounds: exponential_smoothing(
            values, weights.sigmoid(), bounds, backend=backend
        ),
        [tokens, floats(TOKENS), cu_seqlens],
    )
    found["compact"] = (
        lambda values, keep, bounds: compact(values, keep, bounds, 250, backend=backend),
        [tokens, keep, cu_seqlens],
    )
    found["scatter_back"] = (
        lambda values, source: scatter_back(values, source, TOKENS, backend=backend),
        [floats(50, 6), source],
    )
    angles = torch.rand(TOKENS, 4, generator=generator)
    found["rotary"] = (
        lambda q, k, cos, sin, bounds: rotary(q, k, cos, sin, bounds, backend=backend),
        [
            floats(TOKENS, 4, 8),
            floats(TOKENS, 2, 8),
            angles.cos().to(device),
            angles.sin().to(device),
            cu_seqlens,
        ],
    )
    found["unpad"] = (
        lambda padded, mask: unpad(padded, mask, 250, backend=backend),
        [floats(43, 10, 6), keep.view(43, 10)],
    )
    found["pad"] = (
        lambda values, bounds: pad(values, 6, 100, cu_seqlens=bounds, backend=backend),
        [tokens, cu_seqlens],
    )
    labels = torch.randint(0, 20, (TOKENS,), generator=generator).to(device).masked_fill(~keep, -100)
    found["cross_entropy"] = (
        lambda logits, labels: cross_entropy(logits, labels, backend=backend),
        [floats(TOKENS, 20), labels],
    )
    found["packed_cross_entropy"] = (
        lambda hidden, weight, labels, bounds: packed_cross_entropy(
            hidden, weight, labels, chunk=100, shift=True, cu_seqlens=bounds, capacity=TOKENS, backend=backend
        ),
        [floats(TOKENS, 16), floats(20, 16), labels, cu_seqlens],
    )
    return found


def results(function, inputs):
    """All that a call returns, and the gradients of its inputs of floats for fixed slopes of its outputs."""
    out = function(*inputs)
    out = list(out) if isinstance(out, tuple) else [out]
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    loss = sum(
        (
            tensor.float() * torch.cos(torch.arange(tensor.numel(), device=tensor.device)).view(tensor.shape)
        ).sum()
        for tensor in out
        if tensor.requires_grad
    )
    return [*out, *torch.autograd.grad(loss, wanted)]
