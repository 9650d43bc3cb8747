"""Every kernel once each way on small odd shapes, for compute-sanitizer to watch.

PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck python benchmarks/sanitizer.py
compute-sanitizer --tool racecheck python benchmarks/sanitizer.py --only portable

Without the allocator's cache each tensor ends where its memory ends. Shapes have slack, empty and one-token documents, and
documents longer than a tile.
"""

import argparse

import torch

from tersely.kernels import (
    compact,
    cross_entropy,
    decode_attention,
    exponential_smoothing,
    packed_cross_entropy,
    pad,
    rotary,
    scatter_back,
    segment_expand,
    segment_reduce,
    unpad,
    varlen_attention,
)

SHORT, LONG, ONES, SLACK = [20, 100, 33, 1, 0, 90, 64], [700, 1, 0, 129, 300, 64], [1] * 200, 13
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def offsets(lengths):
    return torch.tensor([0, *lengths], device=DEVICE).cumsum(0).int()


def random(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device=DEVICE, dtype=dtype).requires_grad_()


def attention(backend):
    for lengths in (SHORT, LONG):
        for head_dim, heads, key_heads in ((64, 4, 4), (128, 4, 2)):
            tokens = sum(lengths) + SLACK
            q = random(tokens, heads, head_dim)
            k, v = random(tokens, key_heads, head_dim), random(tokens, key_heads, head_dim)
            for options in (dict(causal=True), dict(), dict(causal=True, window=(70, -1))):
                varlen_attention(q, k, v, offsets(lengths), backend=backend, **options).sum().backward()


def merging():
    """Attention with a bias by distance, of positions with gaps, and smoothing."""
    for lengths in (SHORT, LONG, ONES):
        cu, tokens = offsets(lengths), sum(lengths) + SLACK
        places = torch.cat([torch.arange(n, device=DEVICE) * 2 for n in (*lengths, SLACK)])
        gate = random(tokens, dtype=torch.float32)
        for head_dim, heads, key_heads in ((64, 4, 4), (128, 4, 2)):
            q, k, v = (random(tokens, number, head_dim) for number in (heads, key_heads, key_heads))
            relative = dict(bias=random(heads, 257, dtype=torch.float32), positions=(places, places))
            for options in (dict(plus_one=True, gate=gate), dict(causal=True)):
                varlen_attention(q, k, v, cu, **relative, **options).sum().backward()
        for columns in (40, 1024):
            shares = torch.rand(tokens, device=DEVICE, requires_grad=True)
            exponential_smoothing(random(tokens, columns), shares, cu).sum().backward()


def segments():
    for columns in (40, 1024):
        for lengths in (SHORT, LONG, ONES):
            cu, tokens = offsets(lengths), sum(lengths) + SLACK
            values = random(tokens, columns)
            for kind in ("sum", "mean", "max"):
                segment_reduce(values, cu, kind).sum().backward()
            segment_reduce(values, cu, "softmax", random(tokens, dtype=torch.float32)).sum().backward()
            segment_expand(random(len(lengths), columns), cu, tokens).sum().backward()
            for capacity in (None, tokens // 3):
                kept = compact(values, torch.rand(tokens, device=DEVICE) < 0.5, cu, capacity)
                scatter_back(kept.values, kept.source, tokens).sum().backward()


def others():
    cu, tokens = offsets(LONG), sum(LONG) + SLACK
    angles = torch.rand(1024, 32, device=DEVICE)
    for turned in rotary(random(tokens, 4, 64), random(tokens, 2, 64), angles.cos(), angles.sin(), cu):
        turned.sum().backward(retain_graph=True)
    labels = torch.randint(1000, (tokens,), device=DEVICE)
    cross_entropy(random(tokens, 1000), labels).sum().backward()
    packed_cross_entropy(random(tokens, 64), random(1000, 64), labels, shift=True, cu_seqlens=cu).backward()
    mask = torch.arange(90, device=DEVICE) < torch.tensor([[90], [0], [17]], device=DEVICE)
    padded = random(3, 90, 64)
    packed = unpad(padded, mask)
    pad(packed.values, 3, 90, indices=packed.indices).sum().backward()
    starts, lengths = torch.tensor([5, 0, 300], device=DEVICE), torch.tensor([200, 0, 700], device=DEVICE)
    q, k, v = (random(*shape).detach() for shape in ((3, 8, 64), (1000, 2, 64), (1000, 2, 64)))
    decode_attention(q, k, v, starts, lengths, longest=700)


if __name__ == "__main__":
    on_gpu = DEVICE == "cuda"
    PARTS = {
        "hopper": lambda: attention("hopper" if on_gpu else "reference"),
        "portable": lambda: attention("triton" if on_gpu else "reference"),
        "merging": merging,
        "segments": segments,
        "others": others,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    torch.manual_seed(0)
    for name, part in PARTS.items():
        if only in (None, name):
            part()
            if on_gpu:
                torch.cuda.synchronize()
            print(name, "ran", flush=True)
