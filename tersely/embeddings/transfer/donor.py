"""The input rows of a donor: a model that was trained with the new tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tersely.embeddings.transfer.checkpoint import Checkpoint
from tersely.embeddings.transfer.methods import TableName
from tersely.embeddings.transfer.skeleton import skeleton
from tersely.embeddings.transfer.tables import Tables, check_model, stored_tables
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import EmbeddingError


def donor_rows(donor: Any, target: ByteView) -> Tensor:
    """The rows of the ids of the new tokenizer, ``(V, D)``, where they lie: on a GPU, if there is one and the donor is a folder.

    Args:
        donor: a model of transformers, or the folder of one, of which only the inputs are read.
        target: the new tokenizer's vocabulary, without what the swap adds.

    Raises:
        EmbeddingError: it is no such model, has fewer rows than the tokenizer has ids, or a tokenizer with other ids.
    """
    if isinstance(donor, (str, Path)):
        folder = Path(donor)
        model = skeleton(folder)
        check_model(model, len(target), built=False)
        _check_tokenizer(folder, target)
        checkpoint = Checkpoint.of(folder)
        name = stored_tables(model, checkpoint.shapes())[TableName.INPUTS][0]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return checkpoint.tensor(name)[: len(target)].to(device)
    check_model(donor, len(target))
    return Tables.of(donor).inputs.detach()[: len(target)]


def _check_tokenizer(folder: Path, target: ByteView) -> None:
    """Refuses a folder whose tokenizer gives other ids; one without a tokenizer is taken at its word."""
    if not (folder / "tokenizer.json").exists():
        return
    own = ByteView.of(PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True))
    if own.fingerprint != target.fingerprint:
        raise EmbeddingError(
            f"the donor {folder} was trained with another tokenizer than the new one: swap to the tokenizer in its folder"
        )
