"""Stacks of layers: packed against padded document by document, and step by step against all at once."""

import pytest
import torch

from tersely.errors import UsageError
from tersely.kernels import Boundaries
from tersely.layers import Stack

LENGTHS = [3, 0, 7, 1, 4]


def plain(stack, x, causal, window=-1):
    """One document by torch's own attention and rotation, the layers written out again."""
    length, width = x.shape
    size = width // stack.heads
    place = torch.arange(length, dtype=x.dtype)
    angle = place[:, None] * 10_000.0 ** (-torch.arange(0, size, 2, dtype=x.dtype) / size)

    def turned(y):
        first, second = y.chunk(2, -1)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def norm(y, module):
        return y * (y.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * module.weight

    behind = place[:, None] - place[None]
    seen = (
        (behind >= 0) & ((behind <= window) | (window < 0)) if causal else torch.ones(length, length).bool()
    )
    for layer in stack.layers:
        q, k, v = (
            (norm(x, layer.attention_norm) @ layer.qkv.weight.T).view(length, 3, stack.heads, size).unbind(1)
        )
        scores = torch.einsum("qhd,khd->hqk", turned(q), turned(k)) * size**-0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        x = x + torch.einsum("hqk,khd->qhd", weights, v).reshape(length, width) @ layer.out.weight.T
        gate, up = (norm(x, layer.mlp_norm) @ layer.gate_up.weight.T).chunk(2, -1)
        x = x + (gate / (1 + (-gate).exp()) * up) @ layer.down.weight.T
    return norm(x, stack.norm)


@pytest.fixture
def documents():
    torch.manual_seed(0)
    stack = Stack(24, 3, 2, 40).double()
    for part in stack.parameters():
        torch.nn.init.normal_(part, std=0.3)
    values = torch.randn(sum(LENGTHS), 24, dtype=torch.float64)
    cu_seqlens = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    return stack, values, cu_seqlens, positions


@pytest.mark.parametrize(("causal", "window"), [(True, -1), (True, 2), (False, -1)])
def test_packed_documents_are_as_each_alone(documents, causal, window):
    stack, values, cu_seqlens, positions = documents
    bounds = Boundaries.from_cu_seqlens(cu_seqlens, len(values), causal=causal, window=(window, window))
    found = stack(values, bounds, positions)
    wanted = torch.cat([plain(stack, part, causal, window) for part in values.split(LENGTHS)])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    ours = torch.autograd.grad(found.square().sum(), list(stack.parameters()))
    theirs = torch.autograd.grad(wanted.square().sum(), list(stack.parameters()))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


def test_steps_come_to_what_all_positions_at_once_give(documents):
    stack, values, cu_seqlens, positions = documents
    stack = stack.float()
    values = values.float()
    bounds = Boundaries.from_cu_seqlens(cu_seqlens, len(values), causal=True)
    cache = stack.cache(len(LENGTHS), 2)
    more = torch.randn(3, len(LENGTHS), 24)
    with torch.no_grad():
        cache.begin(cu_seqlens, max(LENGTHS))
        stack(values, bounds, positions, cache)
        first = stack.step(more[0], cache)
        rows = torch.tensor([3, 1])
        second = stack.step(more[1][rows], cache, rows)
        third = stack.step(more[2], cache)
    for row, part in enumerate(values.split(LENGTHS)):
        steps = [more[0, row], more[1, row], more[2, row]] if row in rows else [more[0, row], more[2, row]]
        wanted = plain(stack, torch.cat([part, torch.stack(steps)]), True)[len(part) :]
        found = [first[row], *([second[rows.tolist().index(row)]] if row in rows else []), third[row]]
        torch.testing.assert_close(torch.stack(found), wanted, atol=1e-4, rtol=1e-4)


def test_under_autocast_layers_add_in_the_dtype_of_the_weights(documents):
    stack, values, cu_seqlens, positions = documents
    bounds = Boundaries.from_cu_seqlens(cu_seqlens, len(values), causal=True)
    stack, values = stack.float(), values.float() / 10
    with torch.no_grad():
        wanted = stack(values, bounds, positions)
        with torch.autocast("cpu", torch.bfloat16):
            found = stack(values.bfloat16(), bounds, positions)
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 0.05 * wanted.norm()


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="5 heads"):
        Stack(24, 1, 5)
