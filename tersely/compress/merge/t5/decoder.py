"""T5's decoder on packed values: all positions of all targets at once, over what the encoder kept.

Legend: ``U`` packed positions of targets, ``N`` documents, ``C`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.t5.modeling_t5 import T5Stack

from tersely.compress.merge.t5.encoder import Encoded
from tersely.compress.merge.t5.layers import View, bias_of, norm, run_block
from tersely.kernels import Boundaries


def decode(
    stack: T5Stack, input_ids: Tensor, cu_seqlens: Tensor, positions: Tensor, encoded: Encoded, plus_one: bool
) -> Tensor:
    """States ``(U, C)`` behind the last norm.

    Args:
        stack: the decoder.
        input_ids: ``(U,)``, int64.
        cu_seqlens: ``(N + 1,)``, int32: target ``i`` belongs to document ``i`` of ``encoded``.
        positions: ``(U,)``, int64; their differences within a target count.
        encoded: what the encoder made of the sources.
        plus_one: whether each softmax has an extra one in its denominator.
    """
    x = stack.dropout(stack.embed_tokens(input_ids))
    own = Boundaries.from_cu_seqlens(cu_seqlens, len(x), causal=True)
    across = Boundaries.from_cu_seqlens(cu_seqlens, len(x), encoded.cu_seqlens, len(encoded.hidden))
    to_itself = View(own, bias_of(stack), (positions, positions), plus_one=plus_one)
    to_source = View(across, gate=encoded.gate, plus_one=plus_one)
    for block in stack.block:
        x = run_block(block, x, to_itself, to_source, encoded.hidden)
    return stack.dropout(norm(stack.final_layer_norm, x))


def shifted(labels: Tensor, cu_seqlens: Tensor, start: int, filler: int) -> Tensor:
    """What the decoder reads to say packed ``labels`` ``(U,)``: each target one to the right, behind ``start``.

    Labels of -100 are read as ``filler``.
    """
    moved = torch.cat([labels.new_full((1,), start), labels])
    moved = moved.index_fill(0, cu_seqlens.long(), start)[: len(labels)]
    return moved.masked_fill(moved == -100, filler)
