"""Which models there are, by name: trained, and read back from the file beside a code."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from tersely.compress.equal_info.models.mixing import MixingModel
from tersely.compress.equal_info.models.ngram import NgramModel
from tersely.compress.equal_info.models.protocol import ByteModel
from tersely.errors import TokenizeError
from tersely.tokenize.protocol import Texts


class Model(StrEnum):
    """What a code is built by."""

    NGRAM = "ngram"
    """Counts of up to 6 bytes and what followed: seconds, and the same on every machine."""
    MIXING = "mixing"
    """Counts of up to 7 bytes and of words, mixed by learned weights: a minute or two, and the same on every machine."""
    NEURAL = "neural"
    """A small transformer that sees up to 7 bytes: for a GPU, where it takes minutes."""


def train_model(
    kind: Model, texts: Texts, *, on_progress: Callable[[int, int], None] | None = None
) -> ByteModel:
    """A model of ``texts``; ``on_progress`` is called with steps done and all steps, where there are any."""
    if kind is Model.NGRAM:
        return NgramModel.train(texts)
    if kind is Model.MIXING:
        return MixingModel.train(texts)
    from tersely.compress.equal_info.models.neural import NeuralModel

    return NeuralModel.train(texts, on_progress=on_progress)


def load_model(file: str | Path) -> ByteModel:
    """The model that ``save`` of any of them wrote.

    Raises:
        TokenizeError: the file is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), "np") as stored:
            kind = json.loads((stored.metadata() or {}).get("model", "{}")).get("type")
    except (OSError, ValueError, SafetensorError) as error:
        raise TokenizeError(f"{file} cannot be read as a model: {error}") from error
    if kind == Model.MIXING:
        return MixingModel.load(file)
    if kind != Model.NEURAL:
        return NgramModel.load(file)
    from tersely.compress.equal_info.models.neural import NeuralModel

    return NeuralModel.load(file)
