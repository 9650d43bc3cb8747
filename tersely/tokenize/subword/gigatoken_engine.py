"""gigatoken (the extra ``fast``) as an engine for BPE vocabularies."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tersely.errors import TokenizeError
from tersely.ragged import Ragged
from tersely.tokenize.subword.huggingface import HuggingFaceModel
from tersely.tokenize.subword.model import SubwordModel, guarded
from tersely.tokenize.subword.tiktoken_ranks import TiktokenModel

CHECKED_CHARACTERS = 2_000_000
_PATTERNS = {"r50k_base": "r50k", "p50k_base": "r50k", "cl100k_base": "cl100k", "o200k_base": "o200k"}


class GigatokenEngine:
    """``encode`` by gigatoken.

    Raises:
        TokenizeError: it cannot stand in for this vocabulary; the message says why.
    """

    name = "gigatoken"

    def __init__(self, model: SubwordModel) -> None:
        self.checked_characters = CHECKED_CHARACTERS
        self._library: Any = _gigatoken(model)

    @staticmethod
    def of(model: SubwordModel) -> GigatokenEngine | None:
        """The engine, if gigatoken is installed and knows the kind of vocabulary; raises TokenizeError as above."""
        known = isinstance(model, TiktokenModel) and model.name in _PATTERNS and not model.allowed
        if not known and not (isinstance(model, HuggingFaceModel) and model.kind == "BPE"):
            return None
        try:
            importlib.import_module("gigatoken")
        except ImportError:
            return None
        return GigatokenEngine(model)

    def encode(self, texts: list[str]) -> Ragged:
        """The ids of each text, uint32."""
        rows = guarded(lambda: self._library.encode_batch(texts, parallel=False), "gigatoken failed").layout
        offsets = np.asarray(rows.offsets.data).astype(np.int64)
        values = np.asarray(rows.content.data)[offsets[0] : offsets[-1]]
        return Ragged(values, offsets - offsets[0])


def _gigatoken(model: SubwordModel) -> Any:
    gigatoken: Any = importlib.import_module("gigatoken")
    if isinstance(model, HuggingFaceModel) and any(
        token.get(flag) for token in model.added for flag in ("single_word", "lstrip", "rstrip")
    ):
        raise TokenizeError("it has added tokens with conditions on their neighbours")
    make: Callable[[], Any]
    if isinstance(model, HuggingFaceModel):
        content = json.dumps(model.plain_content)
        make = lambda: gigatoken.Tokenizer.from_json(content)  # noqa: E731
    else:
        assert isinstance(model, TiktokenModel)
        ranks, pattern = model.ranks, _PATTERNS[model.name]

        def make() -> Any:
            with tempfile.TemporaryDirectory() as folder:  # it reads from paths only
                file = Path(folder) / "ranks.tiktoken"
                file.write_bytes(ranks)
                return gigatoken.Tokenizer.from_tiktoken(file, pretokenizer=pattern, special_tokens={})

    return guarded(make, "gigatoken cannot load it")
