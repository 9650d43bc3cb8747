import pytest
import torch

from tersely.errors import KernelError
from tersely.kernels import pad, unpad


def batch_of(device, lengths=(3, 0, 5, 1), length=5, left=False):
    """A padded batch, its mask, and its rows without padding."""
    padded = torch.randn(len(lengths), length, 2, 3).to(device)
    places = torch.arange(length, device=device)
    sizes = torch.tensor(lengths, device=device)[:, None]
    mask = (places >= length - sizes) if left else (places < sizes)
    rows = [row[real] for row, real in zip(padded, mask, strict=True)]
    return padded, mask, rows


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_real_tokens_are_packed_in_order(place, left, dtype):
    padded, mask, rows = batch_of(place.device, left=left)
    out = unpad(padded, mask.to(dtype), backend=place.backend)
    assert torch.equal(out.values, torch.cat(rows))
    assert out.cu_seqlens.tolist() == [0, 3, 3, 8, 9]
    assert out.cu_seqlens.dtype == torch.int32
    assert torch.equal(padded.flatten(0, 1)[out.indices], out.values)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("capacity", [None, 12])
def test_padding_comes_back_as_zeros(place, left, capacity):
    padded, mask, _ = batch_of(place.device, left=left)
    out = unpad(padded, mask, capacity, backend=place.backend)
    back = pad(out.values, *mask.shape, indices=out.indices, backend=place.backend)
    assert torch.equal(back, torch.where(mask[:, :, None, None], padded, 0))


def test_boundaries_pad_at_the_right_and_cut_what_is_too_long(place):
    padded, mask, _ = batch_of(place.device)
    out = unpad(padded, mask, 12, backend=place.backend)
    for length in (7, 5, 2):
        back = pad(out.values, 4, length, cu_seqlens=out.cu_seqlens, backend=place.backend)
        expected = torch.zeros(4, 7, 2, 3, device=place.device)
        expected[:, :5] = torch.where(mask[:, :, None, None], padded, 0)
        assert torch.equal(back, expected[:, :length])


def test_gradients_pass_real_tokens_only(place):
    padded, mask, _ = batch_of(place.device)
    padded.requires_grad_()
    out = unpad(padded, mask, backend=place.backend)
    back = pad(out.values, *mask.shape, cu_seqlens=out.cu_seqlens, backend=place.backend)
    (grad,) = torch.autograd.grad(back, padded, torch.ones_like(back))
    assert torch.equal(grad, mask[:, :, None, None].expand(padded.shape).float())


def test_batches_without_tokens(place):
    for shape in ((0, 4, 2), (3, 0, 2), (2, 3, 2)):
        padded = torch.ones(shape, device=place.device)
        out = unpad(padded, torch.zeros(shape[:2], device=place.device), backend=place.backend)
        assert out.values.shape == (0, 2)
        back = pad(out.values, *shape[:2], cu_seqlens=out.cu_seqlens, backend=place.backend)
        assert torch.equal(back, torch.zeros_like(padded))


def test_agrees_with_transformers():
    pytest.importorskip("transformers")
    from transformers.modeling_flash_attention_utils import _pad_input, _unpad_input

    padded, mask, _ = batch_of("cpu", lengths=(3, 2, 5, 1))
    theirs, indices, cu_seqlens, *_ = _unpad_input(padded.flatten(2), mask.int())
    out = unpad(padded.flatten(2), mask)
    assert torch.equal(out.values, theirs)
    assert torch.equal(out.indices, indices)
    assert torch.equal(out.cu_seqlens, cu_seqlens)
    back = _pad_input(theirs, indices, *mask.shape)
    assert torch.equal(pad(out.values, *mask.shape, indices=out.indices), back)


def test_arguments_that_do_not_fit_are_named():
    values = torch.zeros(4, 3)
    with pytest.raises(KernelError, match="attention_mask has shape"):
        unpad(torch.zeros(2, 3, 4), torch.ones(2, 4))
    with pytest.raises(KernelError, match="either indices or cu_seqlens"):
        pad(values, 2, 2)
    with pytest.raises(KernelError, match="bounds 1 sequences, batch is 2"):
        pad(values, 2, 2, cu_seqlens=torch.tensor([0, 4]))
