"""Packed attention by other libraries that are installed, behind the same door: to compare with, or by choice.

They want the longest document as a number, so each call waits for the device, and they know neither trees nor gates.
None of them is a dependency of tersely.

Legend: as in ``attention``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tersely.errors import KernelError
from tersely.kernels.attention.backend import Backend
from tersely.kernels.attention.boundaries import Boundaries


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of packed attention, in the terms that other libraries use."""

    cu_seqlens_q: Tensor
    cu_seqlens_k: Tensor
    longest_q: int
    longest_k: int
    causal: bool
    scale: float
    window: tuple[int, int]
    softcap: float
    sink: Tensor | None


def flash_attn(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """FlashAttention-2, of the package flash-attn."""
    return _flash(importlib.import_module("flash_attn").flash_attn_varlen_func, q, k, v, call)


def flash_attn_3(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """FlashAttention-3, built from flash-attention's folder hopper/."""
    return _flash(importlib.import_module("flash_attn_interface").flash_attn_varlen_func, q, k, v, call)


def flash_attn_4(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """FlashAttention-4, of the package flash-attn-4; its open window is None, and it knows sinks."""
    left, right = (None if side < 0 else side for side in call.window)
    function = importlib.import_module("flash_attn.cute").flash_attn_varlen_func
    sink = {} if call.sink is None else {"learnable_sink": call.sink.to(q.dtype)}
    return _flash(function, q, k, v, call, window_size=(left, right), **sink)


def _flash(
    function: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, call: Call, **changes: Any
) -> Tensor:
    arguments: dict[str, Any] = dict(
        cu_seqlens_q=call.cu_seqlens_q, cu_seqlens_k=call.cu_seqlens_k,
        max_seqlen_q=call.longest_q, max_seqlen_k=call.longest_k,
        softmax_scale=call.scale, causal=call.causal, window_size=call.window, softcap=call.softcap,
    )  # fmt: skip
    out = function(q, k, v, **arguments | changes)
    return out[0] if isinstance(out, tuple) else out


def torch_varlen(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """``torch.nn.attention.varlen.varlen_attn``, which is FlashAttention-2 as torch carries it."""
    from torch.nn.attention.varlen import varlen_attn

    window = (call.window[0], 0) if call.causal else call.window
    known = inspect.signature(varlen_attn).parameters
    gqa: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in known and q.shape[1] != k.shape[1] else {}
    return varlen_attn(
        q, k, v, call.cu_seqlens_q, call.cu_seqlens_k, call.longest_q, call.longest_k,
        scale=call.scale, window_size=window, **gqa,
    )  # type: ignore[return-value]  # fmt: skip


def flex(q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
    """``flex_attention`` with a mask of blocks, made anew in each call."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    bounds = Boundaries.from_cu_seqlens(
        call.cu_seqlens_q, q.shape[0], call.cu_seqlens_k, k.shape[0], causal=call.causal, window=call.window
    )
    start, stop = bounds.key_start, bounds.key_stop

    def seen(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= start[query]) & (key < stop[query])

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return call.softcap * torch.tanh(score / call.softcap)

    mask = create_block_mask(seen, None, None, q.shape[0], k.shape[0], device=str(q.device))
    run = torch.compile(flex_attention, dynamic=True) if q.is_cuda else flex_attention
    x = (y.transpose(0, 1)[None] for y in (q, k, v))
    out: Any = run(
        *x, score_mod=capped if call.softcap else None, block_mask=mask, scale=call.scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    return out[0].transpose(0, 1)


_MODULES = {
    Backend.FLASH_ATTN: ("flash_attn.flash_attn_interface", flash_attn),
    Backend.FLASH_ATTN_3: ("flash_attn_interface", flash_attn_3),
    Backend.FLASH_ATTN_4: ("flash_attn.cute", flash_attn_4),
    Backend.TORCH: ("torch.nn.attention.varlen", torch_varlen),
    Backend.FLEX: ("torch.nn.attention.flex_attention", flex),
}


def is_adapter(backend: Backend) -> bool:
    """Whether ``backend`` belongs to another library."""
    return backend in _MODULES


def why_not_installed(backend: Backend, device: torch.device) -> str | None:
    """Why the library of ``backend`` cannot be used here, or None."""
    module = _MODULES[backend][0]
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        return f"{module} is not installed"
    if device.type != "cuda" and backend is not Backend.FLEX:
        return f"tensors are on {device.type}, not on a GPU"
    return None


def run(
    backend: Backend, q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, *,
    causal: bool, scale: float, window: tuple[int, int], softcap: float, sink: Tensor | None,
) -> Tensor:  # fmt: skip
    """``out`` of another library; slack rows are given to it as if they were not there, and are 0.

    Raises:
        KernelError: it is not installed, or does not know what the call asks for.
    """
    if (why := why_not_installed(backend, q.device)) is not None:
        raise KernelError(f"backend={str(backend)!r} cannot run here: {why}; use backend='auto'")
    if sink is not None and backend is not Backend.FLASH_ATTN_4:
        raise KernelError(f"backend={str(backend)!r} knows no sinks: use backend='auto'")
    if softcap and backend is Backend.TORCH:
        raise KernelError(f"backend={str(backend)!r} knows no soft-cap: use backend='auto'")
    end_q, longest_q, end_k, longest_k = torch.stack(
        [f(cu) for cu in (cu_seqlens_q, cu_seqlens_k) for f in (_end, _longest)]
    ).tolist()
    call = Call(
        cu_seqlens_q=cu_seqlens_q.to(torch.int32), cu_seqlens_k=cu_seqlens_k.to(torch.int32), longest_q=longest_q,
        longest_k=longest_k, causal=causal, scale=scale, window=window, softcap=softcap, sink=sink,
    )  # fmt: skip
    if not end_q or not end_k:
        return torch.zeros_like(q) * q
    out = _MODULES[backend][1](q[:end_q], k[:end_k], v[:end_k], call)
    return torch.nn.functional.pad(out, (0, 0, 0, 0, 0, q.shape[0] - end_q))


def _end(cu_seqlens: Tensor) -> Tensor:
    return cu_seqlens[-1]


def _longest(cu_seqlens: Tensor) -> Tensor:
    return torch.nn.functional.pad(cu_seqlens.diff(), (0, 1)).amax()
