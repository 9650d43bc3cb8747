"""Documents to bins, and bins to batches, without padding and without leaks.

Planning needs numpy and numba only; what makes batches loads torch, on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tersely.pack.balance import Balance as Balance
from tersely.pack.balance import imbalance as imbalance
from tersely.pack.merge import merge_states as merge_states
from tersely.pack.pieces import Overflow as Overflow
from tersely.pack.pieces import Pieces as Pieces
from tersely.pack.plan import PackPlan as PackPlan
from tersely.pack.plan import Strategy as Strategy
from tersely.pack.plan import Waste as Waste
from tersely.pack.plan import plan as plan
from tersely.pack.stream import StreamPlanner as StreamPlanner

if TYPE_CHECKING:
    from tersely.pack.batch import PackedBatch as PackedBatch
    from tersely.pack.batch import PackedCollator as PackedCollator
    from tersely.pack.inference import Completion as Completion
    from tersely.pack.inference import Pooling as Pooling
    from tersely.pack.inference import Prefilled as Prefilled
    from tersely.pack.inference import PrefillReport as PrefillReport
    from tersely.pack.inference import Score as Score
    from tersely.pack.inference import embed as embed
    from tersely.pack.inference import generate as generate
    from tersely.pack.inference import generate_stream as generate_stream
    from tersely.pack.inference import prefill as prefill
    from tersely.pack.inference import score as score
    from tersely.pack.leak import IsolationReport as IsolationReport
    from tersely.pack.leak import check_isolation as check_isolation
    from tersely.pack.loader import PackedDataset as PackedDataset
    from tersely.pack.mixture import MixedDataset as MixedDataset

_WITH_TORCH = {
    "IsolationReport": "leak",
    "MixedDataset": "mixture",
    "PackedBatch": "batch",
    "PackedCollator": "batch",
    "PackedDataset": "loader",
    "check_isolation": "leak",
    **dict.fromkeys(
        (
            "Completion",
            "Pooling",
            "PrefillReport",
            "Prefilled",
            "Score",
            "embed",
            "generate",
            "generate_stream",
            "prefill",
            "score",
        ),
        "inference",
    ),
}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(importlib.import_module(f"tersely.pack.{_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module 'tersely.pack' has no attribute {name!r}")
