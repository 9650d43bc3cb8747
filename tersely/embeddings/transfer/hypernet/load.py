"""A trained network, and whether it fits a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tersely.embeddings.transfer.hypernet.network import Hypernet
from tersely.embeddings.transfer.quality import generates
from tersely.embeddings.transfer.tables import Tables
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import EmbeddingError


def load_hypernet(network: Hypernet | Path | str, model: Any, old: ByteView) -> Hypernet:
    """The network in a folder, on the device of the model, or the one that is given, where it is; in evaluation mode.

    Args:
        network: a folder that training wrote, or a network.
        model: whose rows it shall read.
        old: the vocabulary of the model.

    Raises:
        EmbeddingError: there is none in the folder, or it was trained for other rows.
    """
    if not isinstance(network, Hypernet):
        try:
            network = Hypernet.from_pretrained(network, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise EmbeddingError(
                f"{network} holds no hypernetwork: give a folder that tersely train hypernet has finished"
            ) from error
        network.to(model.device)
    dims: dict[str, int] = network.config.dims
    needed = {name: int(table.shape[1]) for name, table in Tables.of(model).named()}
    if not generates(model):
        needed.pop("head", None)
    name = type(model).__name__
    if "head" in needed and "head" not in dims:
        raise EmbeddingError(
            f"{name} has a head of its own and the hypernetwork was trained for inputs alone: train one for this model"
        )
    if "head" in dims and "head" not in needed:
        raise EmbeddingError(
            f"the hypernetwork was trained for a head of its own and {name} has none: train one for this model"
        )
    if dims != needed:
        raise EmbeddingError(
            f"the hypernetwork makes rows of {dims} dimensions and {name} has {needed}: train one for this model"
        )
    if network.config.fingerprint != old.fingerprint:
        raise EmbeddingError(
            f"the hypernetwork was trained for another vocabulary than that of {name}: give it a model with the same "
            "tokenizer, or train one for this model"
        )
    return network.eval()
