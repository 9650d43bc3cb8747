"""What the operators of this room ask of their arguments; nothing here waits for a device."""

from __future__ import annotations

import torch

from tersely.errors import KernelError

_INTEGERS = (torch.int32, torch.int64)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_cu_seqlens(cu_seqlens: torch.Tensor, like: torch.Tensor) -> None:
    """Raises KernelError if these are no boundaries ``(N + 1,)``, int32 or int64, on the device of ``like``."""
    if cu_seqlens.ndim != 1 or len(cu_seqlens) == 0 or cu_seqlens.dtype not in _INTEGERS:
        raise KernelError(
            f"cu_seqlens is {cu_seqlens.dtype} of shape {tuple(cu_seqlens.shape)}: give int32 or int64 of shape "
            "(N + 1,), starting at 0"
        )
    check_device("cu_seqlens", cu_seqlens, like)


def check_floats(name: str, values: torch.Tensor, at_least: int = 1) -> None:
    """Raises KernelError if ``values`` is not of floats, or has fewer than ``at_least`` dimensions."""
    if values.dtype not in _FLOATS:
        raise KernelError(f"{name} is {values.dtype}: give float16, bfloat16, float32 or float64")
    if values.ndim < at_least:
        raise KernelError(f"{name} has {values.ndim} dimensions: give at least {at_least}, tokens first")


def check_rows(name: str, tensor: torch.Tensor, rows: int) -> None:
    """Raises KernelError if ``tensor`` does not have ``rows`` rows."""
    if tensor.ndim == 0 or tensor.shape[0] != rows:
        raise KernelError(f"{name} has shape {tuple(tensor.shape)}: give it {rows} rows, one for each token")


def check_device(name: str, tensor: torch.Tensor, like: torch.Tensor) -> None:
    """Raises KernelError if ``tensor`` is not on the device of ``like``."""
    if tensor.device != like.device:
        raise KernelError(f"{name} is on {tensor.device}, the values on {like.device}: move one of them")
