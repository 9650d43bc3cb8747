"""unpad and pad: a padded batch to packed values and back (Zhai et al. 2023, ByteTransformer, section III.D).

Legend: ``B`` sequences, ``L`` padded length, ``T`` packed tokens, ``C`` channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from tersely.errors import KernelError
from tersely.kernels.backend import Backend
from tersely.kernels.checks import check_cu_seqlens
from tersely.kernels.compact import compact, scatter_back
from tersely.kernels.operator import operator
from tersely.kernels.segment.places import segments_of_tokens


class Unpadded(NamedTuple):
    """What ``unpad`` returns."""

    values: torch.Tensor
    """The real tokens, ``(T, C...)``; zeros in slack rows."""
    cu_seqlens: torch.Tensor
    """Boundaries of the sequences, ``(B + 1,)``, int32."""
    indices: torch.Tensor
    """Each token's place in the padded batch, ``b * L + l``, ``(T,)`` int64; -1 in slack rows."""


def unpad(
    padded: torch.Tensor,
    attention_mask: torch.Tensor,
    capacity: int | None = None,
    *,
    backend: Backend | str = "auto",
) -> Unpadded:
    """The real tokens of a padded batch, packed. Padding may be on either side, or between tokens.

    Do it once before a model's first layer, not in each. Waits once for the device, for the number of tokens, unless
    ``capacity`` is given. Differentiable: the gradient of padding is zero.

    Args:
        padded: ``(B, L, C...)``, any dtype.
        attention_mask: ``(B, L)``, bool or integers; what is not 0 is real.
        capacity: rows of the result; tokens beyond it are dropped.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Raises:
        KernelError: shapes or devices do not fit, or Triton was named and cannot run.
    """
    if padded.ndim < 2 or attention_mask.shape != padded.shape[:2]:
        raise KernelError(
            f"attention_mask has shape {tuple(attention_mask.shape)} for padded values {tuple(padded.shape)}: give (B, L)"
        )
    batch, length = attention_mask.shape
    rows = torch.arange(batch + 1, dtype=torch.int32, device=padded.device) * length
    keep = attention_mask.reshape(-1) != 0
    return Unpadded(*compact(padded.flatten(0, 1), keep, rows, capacity, backend=backend))


def pad(
    values: torch.Tensor,
    batch: int,
    length: int,
    *,
    indices: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    backend: Backend | str = "auto",
) -> torch.Tensor:
    """Packed values as a padded batch: ``(B, L, C...)`` with zeros for padding. Never waits for the device; differentiable.

    Args:
        values: ``(T, C...)``, any dtype.
        batch: ``B``.
        length: ``L``.
        indices: ``(T,)``, int64: each token's place, as ``unpad`` returns them. Either these,
        cu_seqlens: or boundaries ``(B + 1,)``, int32 or int64: sequences then start at the left. Tokens beyond ``length``
            are dropped.
        backend: ``"auto"``, ``"reference"`` or ``"triton"``.

    Raises:
        KernelError: shapes or devices do not fit, or Triton was named and cannot run.
    """
    if (indices is None) == (cu_seqlens is None):
        raise KernelError("pad takes either indices or cu_seqlens: give one of them")
    if batch < 0 or length < 0:
        raise KernelError(f"batch is {batch} and length {length}: give the shape of the padded batch")
    if indices is None:
        assert cu_seqlens is not None
        check_cu_seqlens(cu_seqlens, values)
        if len(cu_seqlens) != batch + 1:
            raise KernelError(
                f"cu_seqlens bounds {len(cu_seqlens) - 1} sequences, batch is {batch}: make them agree"
            )
        places: torch.Tensor = padded_places(cu_seqlens, len(values), length)
        indices = places
    out = scatter_back(values, indices, batch * length, backend=backend)
    return out.reshape(batch, length, *values.shape[1:])


@operator("padded_places")
def padded_places(cu_seqlens: torch.Tensor, tokens: int, length: int) -> torch.Tensor:
    """Where tokens go if each sequence starts at the left, ``(T,)`` int64; -1 for slack rows and what is too long.

    An operator, because torch 2.11 compiles ``searchsorted`` of boundaries to wrong results on a GPU.
    """
    bounds = cu_seqlens.long()
    sequences = segments_of_tokens(bounds, tokens)
    within = torch.arange(tokens, device=cu_seqlens.device) - bounds[sequences]
    there = (sequences < len(bounds) - 1) & (within < length)
    return torch.where(there, sequences * length + within, -1)


@padded_places.register_fake
def _(cu_seqlens: torch.Tensor, tokens: int, length: int) -> torch.Tensor:
    return cu_seqlens.new_empty(tokens, dtype=torch.int64)
