# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false
"""The recurrence in Triton, from either side: what chunks come to alone, what goes from chunk to chunk, then all positions.

    ends      (chunks, C) in float32: what the values of a chunk come to at its end; and the product of its decays
    carry     (chunks, C): what comes into each chunk, a scan over chunks
    positions a scan inside each chunk, which begins with what comes in

Numbers of rows are counted in the direction of the scan; ``REVERSE`` reads and writes them from the right.

Legend: ``T`` tokens, ``C`` columns, ``L`` rows of a chunk.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block, power_of_two

_CHUNK, _WIDEST = 64, 64
WARPS = 8
"""Of a program that scans a chunk and sums over its columns; with 4 it spills."""
_CHUNKS, _NARROW = 64, 32  # of a tile in the scan over chunks


def scanned(values: torch.Tensor, decay: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``out[t] = decay[t] * out[t - 1] + weight[t] * values[t]``; ``(T, C)``."""
    out = values.new_empty(values.shape)
    if out.numel():
        _run(values, decay, weight, out, out, out, decay, decay, False)
    return out


def scanned_backward(
    grad: torch.Tensor, values: torch.Tensor, out: torch.Tensor, decay: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of values ``(T, C)``, decay and weight ``(T,)``."""
    of_values = values.new_empty(values.shape)
    if not values.numel():
        return of_values, torch.zeros_like(decay), torch.zeros_like(weight)
    blocks = triton.cdiv(values.shape[1], column_block(values.shape[1], _WIDEST))
    sums = decay.new_empty(2, blocks, len(values), dtype=torch.float32)
    after = torch.nn.functional.pad(decay[1:], (0, 1))
    _run(grad, after, weight, of_values, values, out, sums[0], sums[1], True)
    return of_values, sums[0].sum(0).to(decay.dtype), sums[1].sum(0).to(weight.dtype)


def _run(source, decay, weight, out, values, states, of_decay, of_weight, reverse: bool) -> None:
    tokens, columns = source.shape
    chunks, block = triton.cdiv(tokens, _CHUNK), column_block(columns, _WIDEST)
    blocks = triton.cdiv(columns, block)
    carry = source.new_empty(chunks, columns, dtype=torch.float32)
    decays = source.new_empty(chunks, dtype=torch.float32)
    if chunks > 1:
        _ends[(chunks * blocks,)](
            source, decay, weight, carry, decays, tokens, columns, source.stride(0), blocks, reverse, _CHUNK, block
        )  # fmt: skip
        narrow = min(_NARROW, power_of_two(columns))
        _carry[(triton.cdiv(columns, narrow),)](carry, decays, chunks, columns, _CHUNKS, narrow)
    _positions[(chunks * blocks,)](
        source, decay, weight, carry, out, values, states, of_decay, of_weight,
        tokens, columns, source.stride(0), values.stride(0), blocks, reverse, _CHUNK, block,
        num_warps=WARPS,
    )  # fmt: skip


@triton.jit
def _then(first_decay, first_added, second_decay, second_added):
    return first_decay * second_decay, _times(second_decay, first_added) + second_added


@triton.jit
def _times(share, state):
    # None of a state is nothing, be it NaN: another document's, or a slack row's.
    return tl.where(share == 0, 0.0, share * state)


@triton.jit(do_not_specialize=["tokens", "blocks"])
def _ends(
    source, decay, weight, carry, decays, tokens, columns, stride, blocks,
    REVERSE: tl.constexpr, L: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    places = block * BLOCK + tl.arange(0, BLOCK)
    order = chunk * L + tl.arange(0, L)
    there = order < tokens
    rows = (tokens - 1 - order if REVERSE else order).to(tl.int64)
    inside = there[:, None] & (places < columns)[None, :]
    added = tl.load(source + rows[:, None] * stride + places[None, :], mask=inside, other=0).to(tl.float32)
    if not REVERSE:
        weights = tl.load(weight + rows, mask=there, other=0).to(tl.float32)[:, None]
        added = _times(weights, added)
    next_rows = rows - 1 if REVERSE else rows + 1
    last = (tl.arange(0, L) == L - 1) | (order + 1 >= tokens)
    behind = tl.load(decay + next_rows, mask=~last, other=1).to(tl.float32)
    left = tl.cumprod(behind, 0, reverse=True)
    tl.store(
        carry + chunk.to(tl.int64) * columns + places,
        tl.sum(_times(left[:, None], added), 0),
        mask=places < columns,
    )
    if block == 0:
        first = tl.load(decay + rows, mask=there & (tl.arange(0, L) == 0), other=0).to(tl.float32)
        tl.store(decays + chunk, tl.sum(tl.where(tl.arange(0, L) == 0, first * left, 0.0), 0))


@triton.jit(do_not_specialize=["chunks"])
def _carry(carry, decays, chunks, columns, CHUNKS: tl.constexpr, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < columns
    state = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, chunks, CHUNKS):
        order = start + tl.arange(0, CHUNKS)
        there = (order < chunks)[:, None] & inside[None, :]
        at = carry + order.to(tl.int64)[:, None] * columns + places[None, :]
        decay = tl.broadcast_to(
            tl.load(decays + order, mask=order < chunks, other=1)[:, None], (CHUNKS, BLOCK)
        )
        product, added = tl.associative_scan((decay, tl.load(at, mask=there, other=0)), 0, _then)
        passed = _times(product, state[None, :]) + added
        tl.store(at, passed, mask=there)
        is_last = (tl.arange(0, CHUNKS) == CHUNKS - 1)[:, None]
        state = tl.sum(tl.where(is_last, passed, 0.0), 0)


@triton.jit(do_not_specialize=["tokens", "blocks"])
def _positions(
    source, decay, weight, carry, out, values, states, of_decay, of_weight, tokens, columns, stride, value_stride, blocks,
    REVERSE: tl.constexpr, L: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    places = block * BLOCK + tl.arange(0, BLOCK)
    order = chunk * L + tl.arange(0, L)
    there = order < tokens
    rows = (tokens - 1 - order if REVERSE else order).to(tl.int64)
    inside = there[:, None] & (places < columns)[None, :]
    added = tl.load(source + rows[:, None] * stride + places[None, :], mask=inside, other=0).to(tl.float32)
    weights = tl.load(weight + rows, mask=there, other=0).to(tl.float32)
    if not REVERSE:
        added = _times(weights[:, None], added)
    decays = tl.load(decay + rows, mask=there, other=0).to(tl.float32)
    if chunk > 0:
        before = tl.load(carry + (chunk - 1).to(tl.int64) * columns + places, mask=places < columns, other=0)
        first = (tl.arange(0, L) == 0)[:, None]
        added += tl.where(first, _times(decays[:, None], before[None, :]), 0.0)
    _, state = tl.associative_scan((tl.broadcast_to(decays[:, None], (L, BLOCK)), added), 0, _then)
    at = rows[:, None] * columns + places[None, :]
    if REVERSE:
        tl.store(out + at, _times(weights[:, None], state).to(out.dtype.element_ty), mask=inside)
        value = tl.load(values + rows[:, None] * value_stride + places[None, :], mask=inside, other=0)
        tl.store(
            of_weight + block.to(tl.int64) * tokens + rows,
            tl.sum(state * value.to(tl.float32), 1),
            mask=there,
        )
        past = tl.load(states + at - columns, mask=inside & (rows > 0)[:, None], other=0).to(tl.float32)
        tl.store(of_decay + block.to(tl.int64) * tokens + rows, tl.sum(state * past, 1), mask=there)
    else:
        tl.store(out + at, state.to(out.dtype.element_ty), mask=inside)
