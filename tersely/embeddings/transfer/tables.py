"""The tables of a model that have a row for each id: input embeddings, head, and the head's bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tersely.embeddings.transfer.methods import Method, TableName
from tersely.errors import EmbeddingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROWS = 8192  # whose lengths are taken at once


@dataclass(frozen=True)
class Tables:
    """The tables of a model.

    Attributes:
        inputs: ``(rows, D)``.
        head: ``(rows, D)``; None where the model has none, or it is the inputs.
        bias: ``(rows,)``; None where the head has none.
    """

    inputs: Tensor
    head: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, model: PreTrainedModel) -> Tables:
        """The tables themselves, not copies."""
        inputs: Any = model.get_input_embeddings()
        head: Any = model.get_output_embeddings()
        if head is None:
            return cls(inputs.weight, None, None)
        own = head.weight is not inputs.weight
        return cls(inputs.weight, head.weight if own else None, getattr(head, "bias", None))

    def kept(self) -> Tables:
        """Copies, which stay as they are when the model gets other rows."""
        inputs, head, bias = (
            None if part is None else part.detach().clone() for part in (self.inputs, self.head, self.bias)
        )
        assert inputs is not None
        return Tables(inputs, head, bias)

    def named(self) -> list[tuple[str, Tensor]]:
        """The tables with a vector for each id, by name."""
        return [(name, table) for name in ("inputs", "head") if (table := getattr(self, name)) is not None]


def check_model(model: Any, used: int, built: bool = True) -> None:
    """Refuses models whose rows cannot be exchanged by these tables alone.

    Args:
        model: of transformers.
        used: size of its vocabulary.
        built: whether it must have its weights.

    Raises:
        EmbeddingError: adapters, quantised or missing tables, tables for each layer, or fewer rows than ids.
    """
    name = type(model).__name__
    if getattr(model, "peft_config", None) or any(".lora_" in part for part, _ in model.named_parameters()):
        raise EmbeddingError(f"{name} carries adapters: merge them first, with model.merge_and_unload()")
    if not hasattr(model, "get_input_embeddings"):
        raise EmbeddingError(f"{name} is no model of transformers: load it with one of their Auto classes")
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    for part, kind in ((inputs, nn.Embedding), (head, nn.Linear)):
        if part is None and kind is nn.Linear:
            continue
        if not isinstance(part, kind) or not _plain(part.weight, built):
            raise EmbeddingError(
                f"the {kind.__name__} with the rows of {name} is {type(part).__name__}, quantised or not loaded: load the "
                "model in bfloat16 or float32"
            )
    rows = inputs.weight.shape[0]
    if rows < used or (head is not None and head.weight.shape[0] != rows):
        raise EmbeddingError(
            f"{name} has {rows} rows of inputs and {used} ids in its tokenizer: give the tokenizer that it was trained with"
        )
    _refuse_other_tables(model, inputs, rows)


def _plain(weight: Tensor, built: bool) -> bool:
    """Whether a table holds numbers as they are, of at least 16 bits."""
    return weight.is_floating_point() and weight.dtype.itemsize > 1 and not (built and weight.is_meta)


def _refuse_other_tables(model: Any, inputs: nn.Embedding, rows: int) -> None:
    """Tables for each layer (Gemma 3n) hold what no method here knows how to make."""
    for name, part in model.named_modules():
        if not isinstance(part, nn.Embedding) or part.weight is inputs.weight:
            continue
        if (part.num_embeddings == rows and "position" not in name) or "per_layer" in name:
            raise EmbeddingError(
                f"{name} is another table with a row for each id, which cannot be exchanged yet: take a model without "
                "embeddings for each layer"
            )


def stored_tables(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[TableName, list[str]]:
    """The names under which the tables of a model are stored: several, where one that is tied is stored twice.

    Args:
        model: of transformers, with weights or without.
        shapes: of what is stored, by name, which may lack or have the prefix of the model's body.

    Raises:
        EmbeddingError: the inputs are not there, or a table has another shape than the model's.
    """
    tables, prefix = Tables.of(model), f"{model.base_model_prefix}."
    found = dict[TableName, list[str]]()
    for kind in TableName:
        table: Tensor | None = getattr(tables, kind)
        if table is None:
            continue
        own = [name for name, part in model.named_parameters(remove_duplicate=False) if part is table]
        ways = {way: None for name in own for way in (name, name.removeprefix(prefix), prefix + name)}
        found[kind] = [way for way in ways if way in shapes]
        if not found[kind]:
            raise EmbeddingError(
                f"the files of {type(model).__name__} have no {own[0]}: save the model again with save_pretrained"
            )
        for name in found[kind]:
            if shapes[name] != tuple(table.shape):
                raise EmbeddingError(
                    f"{name} is of shape {shapes[name]} where the configuration says {tuple(table.shape)}: save the model "
                    "again with save_pretrained"
                )
    return found


def check_padding(model: Any, padding: int | None) -> None:
    """Refuses to move the id for padding where positions are counted from it, as in RoBERTa.

    Raises:
        EmbeddingError: they are, and it would move.
    """
    for name, part in model.named_modules():
        if not isinstance(part, nn.Embedding) or "position" not in name or part.padding_idx is None:
            continue
        if part.padding_idx != padding:
            raise EmbeddingError(
                f"{name} counts positions from the id for padding, {part.padding_idx}, which would be {padding}: train the "
                f"tokenizer with the model's padding token as id {part.padding_idx}"
            )


@torch.no_grad()
def exchange(model: Any, method: Method, used: int, size: int, padding: int | None) -> None:
    """Writes the new rows into the model, whose tables get the new size; ties stay, and so does what pads the tables if the
    vocabulary keeps its size.

    Args:
        model: is changed.
        method: makes the rows.
        used: size of the old vocabulary.
        size: size of the new one.
        padding: the new id for padding.
    """
    tables = Tables.of(model)
    spare = tables.inputs.shape[0] - used if size == used else 0
    parts = (tables.inputs, tables.head, tables.bias)  # in the order of TableName
    made = [
        None if part is None else _made(part, name, method, used, spare)
        for name, part in zip(TableName, parts, strict=True)
    ]
    del parts, tables  # so that the old rows can go before the new ones are there twice
    model.resize_token_embeddings(size + spare, mean_resizing=False)
    tables = Tables.of(model)
    for part, rows in zip((tables.inputs, tables.head, tables.bias), made, strict=True):
        if part is not None and rows is not None:
            part.copy_(rows)
    inputs = model.get_input_embeddings()
    inputs.padding_idx = None if inputs.padding_idx is None else padding


def _made(table: Tensor, name: TableName, method: Method, used: int, spare: int) -> Tensor:
    """The new rows of a table, in its dtype, on the CPU."""
    flat = table.detach().cpu()
    rows = method.rows(flat[:used].float().reshape(used, -1).numpy(), name)
    new = torch.from_numpy(rows).to(table.dtype).reshape(-1, *table.shape[1:])
    return torch.cat([new, flat[used:]]) if spare else new


def row_lengths(table: Tensor) -> np.ndarray[Any, Any]:
    """float32 ``(rows,)``: the length of each row."""
    parts = table.detach().split(_ROWS)
    return (
        torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float32) for part in parts])
        .cpu()
        .numpy()
    )
