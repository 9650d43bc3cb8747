"""Which implementation is taken, where machines and versions differ: told by what they say of themselves."""

import pytest
import torch

from tersely.errors import KernelError
from tersely.kernels import Backend
from tersely.kernels.attention import backend


@pytest.fixture
def on_hopper(monkeypatch):
    """Tensors that say that they are on a Hopper GPU."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(torch.Tensor, "device", torch.device("cuda:0"))
    monkeypatch.setattr(backend.launch, "capability", lambda device: (9, 0))
    backend._say_once.cache_clear()


def picked(dtype=torch.bfloat16, head_dim=64, name="auto", **changes):
    x = torch.zeros(4, 2, head_dim, dtype=dtype)
    call = dict(tree=False, softcap=0.0, gated=False, deterministic=False) | changes
    return backend.pick(name, x, x, x, **call)


def test_on_hopper_its_own_kernels_are_taken_where_they_can(on_hopper, monkeypatch):
    monkeypatch.setattr(backend, "unsupported", lambda: None)
    monkeypatch.setattr(backend.launch, "unsupported", lambda: None)
    assert picked() is Backend.HOPPER
    for changes in (
        dict(tree=True),
        dict(softcap=1.0),
        dict(gated=True),
        dict(deterministic=True),
        dict(head_dim=96),
    ):
        assert picked(**changes) is Backend.TRITON
    assert picked(torch.float32) is Backend.REFERENCE
    with pytest.raises(KernelError, match="prefix trees"):
        picked(name="hopper", tree=True)


def test_an_unknown_version_of_triton_gives_the_portable_kernels_and_one_warning(on_hopper, monkeypatch):
    monkeypatch.setattr(backend, "unsupported", lambda: "Triton 9.9 is not among the versions")
    with pytest.warns(UserWarning, match=r"portable kernels .* Triton 9.9") as said:
        assert picked() is picked() is Backend.TRITON
    assert len(said) == 1


def test_without_triton_or_a_gpu_the_reference_is_taken(monkeypatch):
    assert picked() is Backend.REFERENCE
    monkeypatch.setattr(backend, "triton_version", lambda: None)
    with pytest.raises(KernelError, match="triton is not installed"):
        picked(name="triton")
