"""The frozen model, run with rows that a network made, and how far that is from what it does with its own.

    encoder   1 - cosine of the mean of the last states, and the same of the states where words end
    decoder   bits for each byte by the next token, and 1 - cosine of the last states where words end

B texts, T places, N tokens of a batch, E ends of words, D dimensions; a batch is what ``batches.py`` makes.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cosine_similarity, cross_entropy

from tersely.embeddings.transfer.hypernet.batches import Batch
from tersely.embeddings.transfer.hypernet.network import Hypernet, means, with_average
from tersely.embeddings.transfer.methods.protocol import TableName
from tersely.embeddings.transfer.quality import generates
from tersely.embeddings.transfer.tables import Tables

_ENDS = 0.5
"""Weight of the states where words end."""


class Frozen:
    """A model whose tables are replaced for each batch.

    Args:
        model: on its device. Its weights stay as they are.
        ordinary: bool, ``(V_old,)``: the ids that stand for text.
    """

    def __init__(self, model: Any, ordinary: np.ndarray[Any, Any]) -> None:
        self._model, self._decoder = model, generates(model)
        self._body = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        text = torch.from_numpy(ordinary).to(model.device)
        tables = Tables.of(model)
        parts = zip(TableName, (tables.inputs, tables.head, tables.bias), strict=True)
        self._tables = {
            name: with_average(_flat(part.detach()[: len(ordinary)]), text)
            for name, part in parts
            if part is not None and (self._decoder or name is TableName.INPUTS)
        }
        head: Any = model.get_output_embeddings() if self._decoder else None
        self._names = {name: key for key, part in _named(model) for name in _held_by(head, part)}

    @property
    def dims(self) -> dict[str, int]:
        """The tables that a network is needed for, with the dimensions of a row."""
        return {
            str(name): table.shape[1] for name, table in self._tables.items() if name is not TableName.BIAS
        }

    def table(self, name: str) -> Tensor:
        """An old table, float32 ``(V_old + 1, D)``, the mean of the rows of text behind."""
        return self._tables[TableName(name)]

    def loss(self, network: Hypernet, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """What is made less, and what it consists of."""
        device = self._model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            rows = {name: part.to(self._model.dtype) for name, part in self._rows(network, batch).items()}
            old_ids, old_mask = _on(batch.old_ids, device), _mask(batch.old_lengths, device)
            new_ids, new_mask = _on(batch.new_ids, device), _mask(batch.new_lengths, device)
            with torch.no_grad():
                before = self._states(self._model.get_input_embeddings()(old_ids), old_mask)
            inputs: Any = self._model.get_input_embeddings()
            vectors = functional_call(inputs, {"weight": rows[TableName.INPUTS]}, (new_ids,))
            if self._decoder:
                after, logits = self._predicted(rows, vectors, new_mask)
            else:
                after, logits = self._states(vectors, new_mask), None
        apart = _apart_at_ends(before, after, _on(batch.ends, device))
        if logits is None:
            first = (1 - cosine_similarity(_mean(before, old_mask), _mean(after, new_mask))).mean()
            name = "cosine distance"
        else:
            first = _bits(logits + _on(batch.log_weights, device), new_ids, new_mask) / batch.size
            name = "bits per byte"
        figures = torch.stack([first.detach(), apart.detach()]).tolist()
        return first + _ENDS * apart, {name: figures[0], "distance at ends": figures[1]}

    @contextmanager
    def still(self) -> Generator[None]:
        """Within it the model has no gradients and no dropout, and any row may be trained."""
        model = self._model
        inputs: Any = model.get_input_embeddings()
        padding, training = inputs.padding_idx, model.training
        wanted = [part for part in model.parameters() if part.requires_grad]
        inputs.padding_idx = None  # the number of padding is another token's here
        model.eval().requires_grad_(False)
        try:
            yield
        finally:
            inputs.padding_idx = padding
            model.train(training)
            for part in wanted:
                part.requires_grad_(True)

    def _rows(self, network: Hypernet, batch: Batch) -> dict[TableName, Tensor]:
        """The new rows of each table, float32 ``(N, D)``."""
        seen = batch.surface
        pieces, kinds, frequencies = (
            _on(part, self._model.device) for part in (seen.pieces, seen.kinds, seen.frequencies)
        )
        rows = {name: means(table, pieces) for name, table in self._tables.items()}
        for name in network.config.dims:
            table = TableName(name)
            rows[table] = rows[table] + network(name, self._tables[table], pieces, kinds, frequencies)
        return rows

    def _states(self, vectors: Tensor, mask: Tensor) -> Tensor:
        return self._body(inputs_embeds=vectors, attention_mask=mask).last_hidden_state.float()

    def _predicted(
        self, rows: dict[TableName, Tensor], vectors: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The last states ``(B, T, D)`` and the logits ``(B, T, N)`` of a decoder."""
        head = {self._names["weight"]: rows.get(TableName.HEAD, rows[TableName.INPUTS])}
        if "bias" in self._names:
            head[self._names["bias"]] = rows[TableName.BIAS][:, 0]
        call = {"inputs_embeds": vectors, "attention_mask": mask, "use_cache": False}
        found = functional_call(self._model, head, (), call | {"output_hidden_states": True})
        return found.hidden_states[-1].float(), found.logits.float()


def _flat(table: Tensor) -> Tensor:
    return table.float().reshape(len(table), -1)


def _named(model: Any) -> Any:
    """All parameters with all their names."""
    return model.named_parameters(remove_duplicate=False)


def _held_by(head: Any, part: Tensor) -> list[str]:
    """Whether a parameter is the head's weight or bias."""
    return [name for name in ("weight", "bias") if head is not None and getattr(head, name, None) is part]


def _on(array: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """An array on the device; whole numbers as int64."""
    found = torch.from_numpy(array).to(device, non_blocking=True)
    return found if found.is_floating_point() else found.long()


def _mask(lengths: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """int64, ``(B, T)``."""
    return _on(np.arange(lengths.max()) < lengths[:, None], device)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of the states of each text, ``(B, D)``."""
    return (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)


def _apart_at_ends(before: Tensor, after: Tensor, ends: Tensor) -> Tensor:
    """1 - cosine, on average, of the states of the tokens that end a word."""
    row, old, new = ends
    if not len(row):
        return after.sum() * 0
    return (1 - cosine_similarity(before[row, old], after[row, new], dim=-1)).mean()


def _bits(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The bits of all ids but the first of each row."""
    labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten(), reduction="sum") / math.log(2)
