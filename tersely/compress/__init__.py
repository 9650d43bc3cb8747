"""Less for the same bytes: codes in which every id carries about the same information, archives, and models that merge.

The models need torch and transformers, and are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tersely.compress.equal_info import EqualInfoTokenizer as EqualInfoTokenizer

if TYPE_CHECKING:
    from tersely.compress.merge.lm import MergingLM as MergingLM
    from tersely.compress.merge.lm import MergingLMConfig as MergingLMConfig
    from tersely.compress.merge.t5 import MergingByT5 as MergingByT5
    from tersely.compress.merge.t5 import MergingByT5Config as MergingByT5Config

_MODELS = {
    "MergingByT5": "tersely.compress.merge.t5",
    "MergingByT5Config": "tersely.compress.merge.t5",
    "MergingLM": "tersely.compress.merge.lm",
    "MergingLMConfig": "tersely.compress.merge.lm",
}


def __getattr__(name: str) -> Any:
    if name in _MODELS:
        return getattr(importlib.import_module(_MODELS[name]), name)
    raise AttributeError(f"module 'tersely.compress' has no attribute {name!r}")
