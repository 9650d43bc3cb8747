# pyright: basic, reportArgumentType=false, reportGeneralTypeIssues=false
"""Rows gathered by an index, in Triton, with zeros where the index is -1.

Legend: ``K`` rows of the result, ``C`` columns.
"""

import torch
import triton
import triton.language as tl

from tersely.kernels.rows import column_block, row_block


def moved(values: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Rows ``(K, C)``: ``values[source]``, and zeros where ``source`` is -1."""
    rows, columns = len(source), values.shape[1]
    out = values.new_empty(rows, columns)
    if not out.numel():
        return out
    block = column_block(columns)
    blocks = triton.cdiv(columns, block)
    height = row_block(block)
    old, new = (
        tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor for tensor in (values, out)
    )
    _move[(triton.cdiv(rows, height) * blocks,)](
        old, new, source.contiguous(), rows, columns, values.stride(0), blocks, height, block
    )
    return out


@triton.jit(do_not_specialize=["rows", "blocks"])
def _move(values, out, source, rows, columns, stride, blocks, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    origin = tl.load(source + row, mask=there, other=-1)
    inside = (places < columns)[None, :]
    tile = tl.load(
        values + origin[:, None] * stride + places[None, :], mask=(origin >= 0)[:, None] & inside, other=0
    )
    tl.store(out + row[:, None] * columns + places[None, :], tile, mask=there[:, None] & inside)
