import numpy as np
import pytest
import torch
from segments import LAYOUTS, close, layout, rows_of, wide

from tersely.errors import KernelError
from tersely.kernels import rotary


def tables(positions, half, device="cpu", dtype=torch.float32):
    angles = torch.arange(positions)[:, None] * 100.0 ** (-torch.arange(half) / half)
    return angles.cos().to(device, dtype), angles.sin().to(device, dtype)


def by_loops(values, cos, sin, positions, real, interleaved=False):
    """Rotary embedding one pair at a time as multiplication of complex numbers, in float64."""
    out = wide(values).copy()
    half = cos.shape[1]
    turn = wide(cos) + 1j * wide(sin)
    pairs = [(2 * i, 2 * i + 1) if interleaved else (i, i + half) for i in range(half)]
    for token, position in enumerate(positions):
        for column, (first, second) in enumerate(pairs):
            product = (out[token, :, first] + 1j * out[token, :, second]) * turn[position, column]
            out[token, :, first], out[token, :, second] = product.real, product.imag
        if not real[token]:
            out[token] = 0
    return out


def places(cu_seqlens, tokens):
    """Positions within documents, and which rows are real."""
    positions, real = np.zeros(tokens, int), np.zeros(tokens, bool)
    for start, end in rows_of(cu_seqlens):
        positions[start:end], real[start:end] = np.arange(end - start), True
    return positions, real


def heads_of(tokens, place, dtype=torch.float32, heads=(4, 2), width=16):
    return [torch.randn(tokens, count, width).to(place.device, dtype) for count in heads]


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name][1] < 300])
@pytest.mark.parametrize("interleaved", [False, True])
def test_positions_restart_at_each_document(place, name, interleaved):
    cu_seqlens, tokens = layout(name, place.device)
    q, k = heads_of(tokens, place)
    cos, sin = tables(300, 8, place.device)
    got = rotary(q, k, cos, sin, cu_seqlens, interleaved=interleaved, backend=place.backend)
    for values, out in zip((q, k), got, strict=True):
        assert close(out, by_loops(values, cos, sin, *places(cu_seqlens, tokens), interleaved))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("half", [3, 8, 5])
@pytest.mark.parametrize("interleaved", [False, True])
def test_part_of_the_dimensions_and_given_positions(place, dtype, half, interleaved):
    q, k = heads_of(9, place, dtype, heads=(3, 5))
    cos, sin = tables(40, half, place.device, dtype)
    positions = torch.randint(0, 40, (9,), dtype=torch.int32, device=place.device)
    got = rotary(q, k, cos, sin, position_ids=positions, interleaved=interleaved, backend=place.backend)
    for values, out in zip((q, k), got, strict=True):
        assert torch.equal(out[..., 2 * half :], values[..., 2 * half :])
        assert close(
            out, by_loops(values, cos, sin, positions.tolist(), np.ones(9, bool), interleaved), scale=1000
        )


def test_agrees_with_transformers(place):
    pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k = heads_of(12, place)
    cos, sin = tables(12, 8, place.device)
    double = [torch.cat([table, table], 1)[None] for table in (cos, sin)]
    theirs = apply_rotary_pos_emb(q.transpose(0, 1)[None], k.transpose(0, 1)[None], *double)
    for mine, other in zip(rotary(q, k, cos, sin, backend=place.backend), theirs, strict=True):
        torch.testing.assert_close(mine, other[0].transpose(0, 1))


def test_slices_of_a_packed_projection(place):
    cu_seqlens, tokens = layout("slack", place.device, torch.int64)
    qkv = torch.randn(tokens, 3, 4, 16, device=place.device)
    cos, sin = tables(30, 8, place.device)
    apart = rotary(qkv[:, 0].clone(), qkv[:, 1].clone(), cos, sin, cu_seqlens, backend=place.backend)
    together = rotary(qkv[:, 0], qkv[:, 1], cos, sin, cu_seqlens, backend=place.backend)
    values = qkv[:, 2].clone()
    rotary(qkv[:, 0], qkv[:, 1], cos, sin, cu_seqlens, inplace=True, backend=place.backend)
    for number in (0, 1):
        assert torch.equal(together[number], apart[number])
        assert torch.equal(qkv[:, number], apart[number])
    assert torch.equal(qkv[:, 2], values)


@pytest.mark.parametrize("interleaved", [False, True])
def test_the_gradient_is_the_inverse_rotation(place, interleaved):
    cu_seqlens, tokens = layout("slack", place.device)
    q, k = (values.requires_grad_() for values in heads_of(tokens, place))
    cos, sin = tables(30, 6, place.device)
    got = rotary(q, k, cos, sin, cu_seqlens, interleaved=interleaved, backend=place.backend)
    back = torch.autograd.grad(got, (q, k), [out.detach() for out in got])
    for values, grad in zip((q, k), back, strict=True):
        torch.testing.assert_close(grad[:12], values[:12].detach())
        assert grad[12:].eq(0).all()


def test_a_position_outside_the_tables_shows(place):
    q, k = heads_of(6, place)
    cos, sin = tables(4, 8, place.device)
    out, _ = rotary(q, k, cos, sin, torch.tensor([0, 1, 6], device=place.device), backend=place.backend)
    assert out[:5].isfinite().all()
    assert out[5].isnan().all()


def test_gradients_of_the_twin_are_exact():
    q, k = (torch.randn(5, heads, 6, dtype=torch.float64, requires_grad=True) for heads in (2, 1))
    cos, sin = tables(5, 2, dtype=torch.float64)
    bounds = torch.tensor([0, 3, 4])
    for interleaved in (False, True):
        assert torch.autograd.gradcheck(
            lambda q, k, how=interleaved: rotary(q, k, cos, sin, bounds, interleaved=how), (q, k)
        )


def test_arguments_that_do_not_fit_are_named():
    q, k = torch.zeros(4, 2, 8), torch.zeros(4, 1, 8)
    cos, sin = tables(4, 4)
    with pytest.raises(KernelError, match=r"cos has shape \(4, 8\)"):
        rotary(q, k, torch.cat([cos, cos], 1), torch.cat([sin, sin], 1))
    with pytest.raises(
        KernelError, match=r"q is torch\.float32 \(4, 2, 8\) and k torch\.float32 \(3, 1, 8\)"
    ):
        rotary(q, k[:3], cos, sin)
    with pytest.raises(KernelError, match="position_ids has shape"):
        rotary(q, k, cos, sin, position_ids=torch.arange(3))
    with pytest.raises(KernelError, match="inplace would destroy"):
        rotary(q.requires_grad_(), k, cos, sin, inplace=True)
