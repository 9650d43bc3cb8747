"""Packed values as rows, and the tiles that kernels cut them into."""

from __future__ import annotations

import math

import torch

WIDEST = 512
"""Columns of a tile at most: 512 of 16 bits are 8 of 16 bytes for each of 4 warps' lanes over 8 rows."""
ELEMENTS = 4096
"""Elements of a tile: with 4 warps, 32 for each thread, which are 4 loads of 16 bytes in flight (bf16)."""


def as_rows(values: torch.Tensor) -> torch.Tensor:
    """``values`` ``(T, C...)`` as ``(T, C)`` whose rows are contiguous; rows may be strided. Copies only if it must."""
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    return rows if rows.shape[1] <= 1 or rows.stride(1) == 1 else rows.contiguous()


def column_block(columns: int, widest: int = WIDEST) -> int:
    """The widest tile, a power of two, that leaves less than an eighth of its columns empty, or the narrowest cover.

    768 columns are 3 tiles of 256, not 2 of 512; 5 columns are one of 8.
    """
    smallest = min(32, power_of_two(columns))
    block = min(widest, power_of_two(columns))
    while block > smallest and -columns % block * 8 > columns:
        block //= 2
    return block


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below ``number``; 1 for 0."""
    return 1 << max(number - 1, 0).bit_length()


def row_block(columns: int, elements: int = ELEMENTS, most: int = 128) -> int:
    """Rows of a tile of ``columns`` columns."""
    return max(1, min(most, elements // columns))
