# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""Where kept rows go, in Triton: each block of flags is counted, then each adds up the counts before its own.

Two launches and no wait between blocks; with 1024 flags a block, a million tokens have a thousand counts to add up.

Legend: ``T`` packed tokens, ``N`` segments, ``K`` rows of the result (the capacity).
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.segment.parts import segment_at

BLOCK = 1024


def planned(
    keep: torch.Tensor, cu_seqlens: torch.Tensor, capacity: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where kept rows come from ``(K,)``, where rows go ``(T,)`` (-1 for nowhere), and the new boundaries."""
    tokens = len(keep)
    source = torch.empty(capacity, dtype=torch.int64, device=keep.device)
    target = torch.empty(tokens, dtype=torch.int64, device=keep.device)
    bounds = torch.empty_like(cu_seqlens, memory_format=torch.contiguous_format)
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
        bounds,
        tokens,
        len(cu_seqlens) - 1,
        capacity,
        counted,
        BLOCK,
    )
    return source, target, bounds


@triton.jit
def _flags_at(flags, cu_seqlens, places, tokens, segments):
    """1 for kept rows, 0 for the others, slack rows among them."""
    real = (places < tokens) & (places < tl.load(cu_seqlens + segments))
    return (tl.load(flags + places, mask=real, other=0) != 0).to(tl.int32)


@triton.jit(do_not_specialize=["tokens", "segments"])
def _count(flags, cu_seqlens, counts, tokens, segments, BLOCK: tl.constexpr):
    block = tl.program_id(0).to(tl.int64)
    places = block * BLOCK + tl.arange(0, BLOCK)
    tl.store(counts + block, tl.sum(_flags_at(flags, cu_seqlens, places, tokens, segments), 0))


@triton.jit(do_not_specialize=["tokens", "segments", "capacity", "counted"])
def _place(
    flags, cu_seqlens, counts, source, target, bounds, tokens, segments, capacity, counted,
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
    first = block * BLOCK
    segment = tl.zeros((), tl.int64)
    if block > 0:
        segment = segment_at(cu_seqlens, segments + 1, first - 1) + 1
    last = segment_at(cu_seqlens, segments + 1, first + BLOCK - 1)
    for start in range(segment, last + 1, BLOCK):
        index = start + tl.arange(0, BLOCK)
        bound = tl.load(cu_seqlens + index, mask=index <= last, other=first).to(tl.int64)
        kept_before = tl.gather(number, (bound - first).to(tl.int32), 0)
        tl.store(bounds + index, tl.minimum(kept_before, capacity), mask=index <= last)


def inverted(source: torch.Tensor, rows: int) -> torch.Tensor:
    """For each of ``rows`` rows the place in ``source`` that names it, -1 where none does."""
    target = torch.full((rows,), -1, device=source.device)
    if len(source):
        _invert[(triton.cdiv(len(source), BLOCK),)](source.contiguous(), target, len(source), BLOCK)
    return target


@triton.jit(do_not_specialize=["number"])
def _invert(source, target, number, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(source + places, mask=places < number, other=-1)
    tl.store(target + row, places, mask=row >= 0)
