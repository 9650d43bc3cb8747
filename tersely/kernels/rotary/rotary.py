"""rotary: rotary position embedding on packed queries and keys (Su et al. 2021, RoFormer, section 3.2).

Legend: ``T`` packed tokens, ``N`` segments, ``H`` heads, ``K`` key heads, ``D`` head dimension, ``R`` rotated dimensions,
``P`` positions in the tables.
"""

from __future__ import annotations

import torch

from tersely.errors import KernelError
from tersely.kernels.backend import Backend
from tersely.kernels.checks import check_cu_seqlens, check_device, check_floats, check_rows
from tersely.kernels.rotary.operators import rotary_in_place, rotary_new


def rotary(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    cu_seqlens: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    interleaved: bool = False,
    inplace: bool = False,
    *,
    backend: Backend | str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates packed queries and keys in one launch; each document counts its positions from 0.

    The position of a token is ``position_ids``' if given, else its place in its segment if ``cu_seqlens`` is given, else its
    row. Never waits for the device. The gradient is the inverse rotation; the tables get none.

    Args:
        q: ``(T, H, D)``, float16, bfloat16, float32 or float64; may be strided, as a slice of a packed projection is
            (``qkv[:, 0]`` of ``(T, 3, H, D)``): it is not copied.
        k: ``(T, K, D)`` of the same dtype, any number of heads.
        cos: ``(P, R / 2)``, floats, one column for each angle (not repeated); ``R <= D``, the dimensions beyond R stay as
            they are.
        sin: as ``cos``.
        cu_seqlens: ``(N + 1,)``, int32 or int64. Rows past ``cu_seqlens[-1]`` are slack and become zeros.
        position_ids: ``(T,)``, int32 or int64.
        interleaved: pairs are dimensions ``2 i`` and ``2 i + 1`` (GPT-J), not ``i`` and ``i + R / 2`` (GPT-NeoX, Llama).
        inplace: write over ``q`` and ``k`` and return them; only where no gradient is recorded.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Returns:
        ``q`` and ``k`` rotated. A position outside the tables gives NaN, so that it shows without a wait.

    Raises:
        KernelError: shapes, dtypes or devices do not fit, ``inplace`` while gradients are recorded, or Triton was named
            and cannot run.
    """
    _check(q, k, cos, sin)
    if cu_seqlens is not None:
        check_cu_seqlens(cu_seqlens, q)
    if position_ids is not None:
        check_rows("position_ids", position_ids, len(q))
        check_device("position_ids", position_ids, q)
        if position_ids.ndim != 1 or position_ids.dtype not in (torch.int32, torch.int64):
            raise KernelError(
                f"position_ids is {position_ids.dtype} of shape {tuple(position_ids.shape)}: give int32 or int64 (T,)"
            )
    if not inplace:
        return rotary_new(q, k, cos, sin, cu_seqlens, position_ids, interleaved, False, backend)
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
        raise KernelError(
            "inplace would destroy what the gradient needs: leave it out, or use torch.no_grad()"
        )
    if q.stride(2) != 1 or k.stride(2) != 1:
        raise KernelError("inplace needs q and k whose last dimension is contiguous: leave it out")
    rotary_in_place(q, k, cos, sin, cu_seqlens, position_ids, interleaved, backend)
    return q, k


def _check(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    for name, tensor in (("q", q), ("k", k), ("cos", cos), ("sin", sin)):
        check_floats(name, tensor)
        check_device(name, tensor, q)
    if q.ndim != 3 or k.ndim != 3 or k.dtype != q.dtype or (len(k), k.shape[2]) != (len(q), q.shape[2]):
        raise KernelError(
            f"q is {q.dtype} {tuple(q.shape)} and k {k.dtype} {tuple(k.shape)}: give (T, H, D) and (T, K, D) of one dtype"
        )
    if cos.ndim != 2 or cos.shape != sin.shape or 2 * cos.shape[1] > q.shape[2] or not cos.shape[1]:
        raise KernelError(
            f"cos has shape {tuple(cos.shape)} and sin {tuple(sin.shape)} for heads of {q.shape[2]}: give (P, R / 2) for "
            "both, with one column for each angle and R at most the head dimension"
        )
