"""tersely: make sequences short before a GPU sees them, and never pad them after.

The rooms (``tokenize``, ``compress``, ``embeddings``, ``kernels``, ``shards``, ``pack``, ``corpus``) are imported on first use, so that ``import tersely``
and ``tersely --help`` load neither torch nor numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tersely import compress as compress
    from tersely import corpus as corpus
    from tersely import embeddings as embeddings
    from tersely import errors as errors
    from tersely import kernels as kernels
    from tersely import pack as pack
    from tersely import shards as shards
    from tersely import tokenize as tokenize
    from tersely.load import load_tokenizer as load_tokenizer
    from tersely.ragged import Ragged as Ragged

_ROOMS = ("compress", "corpus", "embeddings", "errors", "kernels", "pack", "shards", "tokenize")
_NAMES = {"Ragged": "tersely.ragged", "load_tokenizer": "tersely.load"}

__all__ = [
    "Ragged",
    "compress",
    "corpus",
    "embeddings",
    "errors",
    "kernels",
    "load_tokenizer",
    "pack",
    "shards",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"tersely.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'tersely' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
