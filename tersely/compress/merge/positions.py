"""Where packed rows stand in their documents: what rules and models that merge count by.

Legend: ``T`` packed rows, ``N`` documents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tersely.kernels.segment.reference import segments_of_tokens


def positions_of(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """The place of each row in its document, int64 ``(T,)``, from 0; -1 in slack rows. Never waits for the device."""
    ends = torch.cat([cu_seqlens, cu_seqlens[-1:]]).long()
    places = torch.arange(tokens, device=cu_seqlens.device)
    return torch.where(places < ends[-1], places - ends[segments_of_tokens(cu_seqlens, tokens)], -1)


def earlier(values: Tensor, position_ids: Tensor, back: int, missing: int) -> Tensor:
    """``values`` ``(T,)`` of the row ``back`` places before, and ``missing`` where the document has none."""
    moved = torch.cat([values.new_full((back,), missing), values])[: len(values)]
    return torch.where(position_ids >= back, moved, missing)
