# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""Where kept rows go, in Triton: each block of flags is counted, then each adds up the counts before its own.

Two launches and no wait between blocks; with 1024 flags a block, a million tokens have a thousand counts to add up.

Legend: ``T`` packed tokens, ``N`` segments, ``K`` rows of the result (the capacity).
"""

import torch
import triton
import triton.language as tl

BLOCK = 1024


def planned(
    keep: torch.Tensor, cu_seqlens: torch.Tensor, capacity: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where kept rows come from ``(K,)``, where rows go ``(T,)`` (-1 for nowhere), and the new boundaries."""
    tokens = len(keep)
    source = torch.empty(capacity, dtype=torch.int64, device=keep.device)
    target = torch.empty(tokens, dtype=torch.int64, device=keep.device)
    before = torch.empty(tokens + 1, dtype=cu_seqlens.dtype, device=keep.device)
    counted = tokens // BLOCK + 1  # the place past the last row is counted, too: there the total stands
    counts = torch.empty(counted, dtype=torch.int64, device=keep.device)
    flags = keep.contiguous().view(torch.uint8)
    _count[(counted,)](flags, cu_seqlens, counts, tokens, len(cu_seqlens) - 1, BLOCK)
    grid = (max(counted, triton.cdiv(capacity, BLOCK)),)
    _place[grid](
        flags,
        cu_seqlens,
        counts,
        source,
        target,
        before,
        tokens,
        len(cu_seqlens) - 1,
        capacity,
        counted,
        BLOCK,
    )
    return source, target, before[cu_seqlens]


@triton.jit
def _flags_at(flags, cu_seqlens, places, tokens, segments):
    """1 for kept rows, 0 for the others, slack rows among them."""
    real = (places < tokens) & (places < tl.load(cu_seqlens + segments))
    return (tl.load(flags + places, mask=real, other=0) != 0).to(tl.int64)


@triton.jit(do_not_specialize=["tokens", "segments"])
def _count(flags, cu_seqlens, counts, tokens, segments, BLOCK: tl.constexpr):
    block = tl.program_id(0).to(tl.int64)
    places = block * BLOCK + tl.arange(0, BLOCK)
    tl.store(counts + block, tl.sum(_flags_at(flags, cu_seqlens, places, tokens, segments), 0))


@triton.jit(do_not_specialize=["tokens", "segments", "capacity", "counted"])
def _place(
    flags, cu_seqlens, counts, source, target, before, tokens, segments, capacity, counted,
    BLOCK: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    lower = tl.zeros((BLOCK,), tl.int64)
    whole = tl.zeros((BLOCK,), tl.int64)
    for start in range(0, counted, BLOCK):
        index = start + tl.arange(0, BLOCK)
        count = tl.load(counts + index, mask=index < counted, other=0)
        whole += count
        lower += tl.where(index < block, count, 0)
    base, total = tl.sum(lower, 0), tl.sum(whole, 0)
    places = block * BLOCK + tl.arange(0, BLOCK)
    kept = _flags_at(flags, cu_seqlens, places, tokens, segments)
    number = base + tl.cumsum(kept, 0) - kept
    taken = (kept != 0) & (number < capacity)
    tl.store(source + number, places, mask=taken)
    tl.store(source + places, tl.full((BLOCK,), -1, tl.int64), mask=(places >= total) & (places < capacity))
    tl.store(target + places, tl.where(taken, number, -1), mask=places < tokens)
    tl.store(before + places, tl.minimum(number, capacity), mask=places <= tokens)
