"""Which implementation of an operator runs: the plain twin or Triton's kernels."""

from __future__ import annotations

import importlib.util
import os
from enum import StrEnum
from functools import cache

import torch

from tersely.errors import KernelError, choose


class Backend(StrEnum):
    """The implementations of an operator of this room."""

    AUTO = "auto"
    """Triton for tensors on CUDA of a dtype it takes and where it is installed, else the twin."""
    REFERENCE = "reference"
    """The plain twin in PyTorch: any device, and float64 too."""
    TRITON = "triton"
    """Triton's kernels: on CUDA, or on the CPU in Triton's interpreter (TRITON_INTERPRET=1)."""


@cache
def has_triton() -> bool:
    """Whether Triton is installed (it is not imported to find out)."""
    return importlib.util.find_spec("triton") is not None


def runs_triton(backend: str, tensor: torch.Tensor) -> bool:
    """Whether ``backend`` means Triton for this tensor.

    Raises:
        UsageError: there is no such backend.
        KernelError: Triton was asked for by name and cannot run here.
    """
    chosen = choose(Backend, backend)
    if chosen is Backend.AUTO:
        return tensor.is_cuda and tensor.dtype != torch.float64 and has_triton()
    if chosen is Backend.REFERENCE:
        return False
    if not has_triton():
        raise KernelError("backend 'triton' needs the package triton: install it, or take backend='auto'")
    if tensor.dtype == torch.float64:
        raise KernelError(
            "backend 'triton' adds in float32 and refuses float64: take backend='reference' for it"
        )
    if not tensor.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise KernelError(
            f"backend 'triton' cannot run on {tensor.device}: move the tensors to CUDA, take backend='auto', "
            "or start Python with TRITON_INTERPRET=1"
        )
    return True
