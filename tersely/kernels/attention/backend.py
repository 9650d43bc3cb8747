"""Which implementation runs a call, and why not the others."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import warnings
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from tersely.errors import KernelError, choose
from tersely.kernels.attention.hopper import launch
from tersely.kernels.attention.hopper.gluon import unsupported


class Backend(StrEnum):
    """Implementations of packed attention."""

    AUTO = "auto"
    """The first of the others, from the fastest down, that supports the call."""

    HOPPER = "hopper"
    """Gluon kernels for compute capability 9.0: asynchronous copies and products, warps with roles."""

    TRITON = "triton"
    """Portable Triton kernels: every mask and option, deterministic."""

    REFERENCE = "reference"
    """Plain PyTorch: any device, fp32 and fp64 too; slow."""

    FLASH_ATTN = "flash_attn"
    """FlashAttention-2, if it is installed. This and those below are never chosen by ``auto``: see ``adapters``."""

    FLASH_ATTN_3 = "flash_attn_3"
    """FlashAttention-3, if it is installed."""

    FLASH_ATTN_4 = "flash_attn_4"
    """FlashAttention-4, if it is installed."""

    TORCH = "torch"
    """torch's ``varlen_attn``."""

    FLEX = "flex"
    """torch's ``flex_attention``."""


def pick(
    backend: str, q: Tensor, k: Tensor, v: Tensor, *,
    tree: bool, softcap: float, gated: bool, deterministic: bool, biased: bool = False,
) -> Backend:  # fmt: skip
    """The implementation of a call.

    Raises:
        KernelError: the one that was asked for does not support the call; the message says why.
    """
    wanted = choose(Backend, backend)
    call: dict[str, Any] = dict(
        tree=tree, softcap=softcap, gated=gated, deterministic=deterministic, biased=biased
    )
    if wanted is not Backend.AUTO:
        if (why := why_not(wanted, q, k, v, **call)) is not None:
            raise KernelError(f"backend={str(wanted)!r} cannot run this call: {why}; use backend='auto'")
        return wanted
    if why_not(Backend.HOPPER, q, k, v, **call) is None:
        return Backend.HOPPER
    if why_not(Backend.TRITON, q, k, v, **call) is None:
        if q.is_cuda and launch.capability(q.device) == (9, 0) and unsupported() is not None:
            _say_once(f"packed attention takes the portable kernels on this Hopper GPU: {unsupported()}")
        return Backend.TRITON
    return Backend.REFERENCE


@functools.cache
def _say_once(what: str) -> None:
    warnings.warn(what, stacklevel=2)


def why_not(
    backend: Backend, q: Tensor, k: Tensor, v: Tensor, *,
    tree: bool = False, softcap: float = 0.0, gated: bool = False, deterministic: bool = False, biased: bool = False,
) -> str | None:  # fmt: skip
    """Why ``backend`` does not run this call here, or None if it does."""
    if backend is Backend.REFERENCE:
        return None
    if (why := why_not_here(backend, q.device)) is not None:
        return why
    if q.dtype not in (torch.bfloat16, torch.float16) and not interpreting():
        return f"its products are of bf16 or fp16, not {q.dtype}"
    if q.shape[-1] % 8 or q.shape[-1] > 256:
        return f"the head dimension is {q.shape[-1]}, not a multiple of 8 up to 256"
    if backend is Backend.HOPPER:
        if tree or softcap or gated or biased:
            return "prefix trees, soft-caps, gates and position biases are in the portable kernels only"
        return launch.supports(q, k, v, deterministic=deterministic)
    return None


def why_not_here(backend: Backend, device: torch.device) -> str | None:
    """Why ``backend`` does not run on this device with what is installed, or None if it does."""
    if backend is Backend.REFERENCE:
        return None
    if triton_version() is None:
        return "triton is not installed (pip install 'tersely[gpu]')"
    if device.type != "cuda":
        return (
            None
            if interpreting() and backend is Backend.TRITON
            else f"tensors are on {device.type}, not on a GPU"
        )
    if backend is Backend.HOPPER:
        if launch.capability(device) != (9, 0):
            return "the GPU is not of compute capability 9.0"
        return unsupported()
    return None


@functools.cache
def triton_version() -> str | None:
    """The installed version of Triton."""
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return None


def interpreting() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"
