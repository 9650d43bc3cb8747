"""Bias by distance in portable Triton: what is added to a tile of scores.

A tile of which all pairs are ``R`` apart or more, on one side, gets one number: only tiles near the diagonal look their
distances up, pair by pair. Positions may be any integers, so a tile's kind is read off its positions, never off places.

Legend: as in ``forward``; ``R`` longest distance.
"""

# pyright: basic, reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def positions_of(positions_ptr, first, tokens, BLOCK: tl.constexpr):
    """Positions of ``BLOCK`` tokens, int32; past the end that of the last one."""
    token = tl.minimum(first + tl.arange(0, BLOCK), tokens - 1)
    return tl.load(positions_ptr + token).to(tl.int32)


@triton.jit
def side_of(low, high, other, R: tl.constexpr, BLOCK: tl.constexpr):
    """1 if ``BLOCK`` positions ``other`` are all ``R`` or more above those from ``low`` to ``high``, -1 if below, else 0."""
    sides = (other - high >= R).to(tl.int32) - (other - low <= -R).to(tl.int32)
    total = tl.sum(sides, 0)
    return (total == BLOCK).to(tl.int32) - (total == -BLOCK).to(tl.int32)


@triton.jit
def bias_of(table_ptr, query, key, side, R: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The bias of a tile, fp32, from a head's table around its middle, and the positions along the tile's two sides."""
    if side == 0:
        distance = tl.minimum(tl.maximum(key - query, -R), R)
        bias = tl.load(table_ptr + distance).to(tl.float32)
    else:
        bias = tl.zeros([ROWS, COLUMNS], tl.float32) + tl.load(table_ptr + side * R).to(tl.float32)
    return bias
