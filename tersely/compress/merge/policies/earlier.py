"""What stands before a position in its document: all that a causal rule may look at.

Legend: ``T`` packed rows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def earlier(values: Tensor, position_ids: Tensor, back: int, missing: int) -> Tensor:
    """``values`` ``(T,)`` of the row ``back`` places before, and ``missing`` where the document has none."""
    moved = torch.cat([values.new_full((back,), missing), values])[: len(values)]
    return torch.where(position_ids >= back, moved, missing)
