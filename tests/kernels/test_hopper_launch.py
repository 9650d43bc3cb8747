"""Launches of the Hopper attention kernels as far as a CPU can tell: what is supported, copied, and passed on."""

from types import SimpleNamespace

import pytest
import torch

from tersely.errors import KernelError
from tersely.kernels.attention.hopper import launch
from tersely.kernels.attention.hopper.gluon import unsupported


def tensors(H=4, Hkv=2, D=64, dtype=torch.bfloat16):
    return torch.zeros(300, H, D, dtype=dtype), *(torch.zeros(200, Hkv, D, dtype=dtype) for _ in range(2))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dtype": torch.float32}, "bfloat16 or float16"),
        ({"D": 96}, "head dimensions 64 and 128"),
        ({"H": 5}, "do not divide"),
        ({}, "compute capability 9.0"),
    ],
)
def test_supports_says_why_not(arguments, reason):
    assert reason in launch.supports(*tensors(**arguments))


def test_a_deterministic_backward_is_not_supported():
    q, k, v = tensors()
    assert "deterministic" in launch.supports(q, k, v, deterministic=True)
    with pytest.raises(KernelError, match="not deterministic"):
        launch.backward(q, q, k, v, q, torch.zeros(4, 300), bounds(), scale=1.0, deterministic=True)


def test_slices_of_a_packed_projection_are_read_in_place():
    qkv = torch.zeros(300, 8, 64, dtype=torch.bfloat16)
    for x in (qkv[:, :4], qkv[:, 4:6], qkv.transpose(0, 1).contiguous().transpose(0, 1), qkv[:1], qkv[:, 7:]):
        assert launch._for_copy_engine(x) is x


def test_what_the_copy_engine_cannot_read_is_copied():
    odd = torch.zeros(300, 4, 68, dtype=torch.bfloat16)[..., :64]
    shifted = torch.zeros(300 * 4 * 64 + 1, dtype=torch.bfloat16)[1:].view(300, 4, 64)
    expanded = torch.zeros(1, 4, 64, dtype=torch.bfloat16).expand(300, 4, 64)
    wide = torch.zeros(300, 64, 4, dtype=torch.bfloat16).transpose(1, 2)
    for x in (odd, shifted, expanded, wide):
        copy = launch._for_copy_engine(x)
        assert copy.is_contiguous()
        assert torch.equal(copy, x)
        assert not copy.data_ptr() % 16


def bounds():
    names = ("key_start", "key_stop", "query_start", "query_stop", "query_tiles", "key_tiles")
    return SimpleNamespace(**{name: torch.zeros(1, dtype=torch.int32) for name in names})


def test_without_queries_or_keys_nothing_is_launched():
    q, k, v = tensors()
    out, lse = launch.forward(q, k[:0], v[:0], bounds(), scale=1.0)
    assert not out.any()
    assert (lse == -torch.inf).all()
    sink = torch.arange(4.0)
    assert torch.equal(launch.forward(q, k[:0], v[:0], bounds(), scale=1.0, sink=sink)[1][:, 7], sink)
    for gradient in launch.backward(q, q, k[:0], v[:0], out, lse, bounds(), scale=1.0):
        assert not gradient.any()


class Recorder:
    """Stands for a kernel: keeps the grid and the arguments by name."""

    def __init__(self, kernel, calls):
        self.names, self.calls = kernel.arg_names, calls

    def __getitem__(self, grid):
        def launched(*arguments, num_warps, **constants):
            named = dict(zip(self.names, arguments, strict=False)) | constants
            assert len(named) == len(arguments) + len(constants)
            assert set(named) == set(self.names)
            self.calls.append((grid, named))

        return launched


@pytest.mark.skipif(unsupported() is not None, reason=f"{unsupported()}")
def test_every_argument_of_the_kernels_is_given(monkeypatch):
    from tersely.kernels.attention.hopper import backward, forward

    calls = []
    for module, names in (
        (forward, ["attention_forward"]),
        (backward, ["prepare", "attention_backward", "finish"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, Recorder(getattr(module, name), calls))
    monkeypatch.setattr(launch, "_multiprocessors", lambda device: 132)
    monkeypatch.setattr(launch, "_counters", lambda device: torch.zeros(2, dtype=torch.int32))
    q, k, v = tensors()
    out, lse = launch.forward(q, k, v, bounds(), scale=0.1, sink=torch.zeros(4))
    launch.backward(out, q, k, v, out, lse, bounds(), scale=0.1)
    forward_call, prepare, main, finish = calls
    assert forward_call[0] == (12,)  # 3 tiles of queries, 4 heads
    assert main[0] == (4,)  # 2 tiles of keys, 2 key heads
    assert main[1]["blocks"] == 3
    rows = prepare[0][0] * prepare[1]["R"]
    assert rows == finish[0][0] * finish[1]["R"] == 4 * 384  # all rows that the kernel between may touch
    assert main[1]["dq_desc"].shape[0] * main[1]["dq_desc"].shape[1] == rows * 64
