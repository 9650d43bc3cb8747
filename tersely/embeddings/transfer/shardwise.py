"""A swap from files to files: the model is never built, and one table is in memory at a time.

All but the tables is copied as bytes. A table is made a block of columns at a time, for each column of the new rows is made of
the same column of the old ones; only ``hypernet`` mixes them, and cannot be had here. The settings are those of the model without
weights (``skeleton.py``), which also says which tensors are tables and what shapes the others must have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tersely.embeddings.transfer.checkpoint import Checkpoint
from tersely.embeddings.transfer.ids import translate_settings
from tersely.embeddings.transfer.learned import Corpus
from tersely.embeddings.transfer.methods import Method, MethodName, TableName
from tersely.embeddings.transfer.report import SwapReport
from tersely.embeddings.transfer.skeleton import skeleton
from tersely.embeddings.transfer.specials import SpecialTokens
from tersely.embeddings.transfer.swap import Progress, Ready, prepare, report_of
from tersely.embeddings.transfer.tables import row_lengths, stored_tables
from tersely.errors import EmbeddingError

_COLUMNS = 256


def swap_files(
    folder: Path,
    out: Path,
    source: Any,
    target: Any,
    method: MethodName | str,
    corpus: Corpus | None,
    special_tokens: SpecialTokens | str,
    *,
    donor: Path | None,
    on_progress: Progress,
) -> SwapReport:
    """Writes the files of a model with other rows, and its settings, but no tokenizer.

    Args:
        folder: of the model.
        out: the folder to write into, which exists.
        source: the tokenizer of the model.
        target: the new one.
        method: as for ``swap_tokenizer``, like the next three.
        corpus: texts, or texts by language.
        special_tokens: whose.
        donor: the folder of a donor.
        on_progress: is told each step as it begins.

    Raises:
        EmbeddingError: as by ``swap_tokenizer``, or the files are not those that the configuration describes.
    """
    model, checkpoint = skeleton(folder), Checkpoint.of(folder)
    shapes = checkpoint.shapes()
    stored = stored_tables(model, shapes)
    ready = prepare(
        model, source, target, method, corpus, special_tokens,
        donor=donor, built=False, on_progress=on_progress,
    )  # fmt: skip
    on_progress("exchanging rows")
    used, size = len(ready.old), len(ready.new)
    rows = int(model.get_input_embeddings().weight.shape[0])
    rows = rows if size == used else size  # what pads the tables stays if the vocabulary keeps its size
    lost = translate_settings(model, source, ready.used)
    model.resize_token_embeddings(rows, mean_resizing=False)
    _check_shapes(model, shapes, {name for names in stored.values() for name in names})
    before, after = dict[str, np.ndarray[Any, Any]](), dict[str, np.ndarray[Any, Any]]()
    remade = {
        name: _maker(kind, ready, rows, before, after) for kind, names in stored.items() for name in names
    }
    checkpoint.rewrite(out, rows, remade)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(out)
    if model.can_generate():
        model.generation_config.save_pretrained(out)
    return report_of(ready, before, after, lost, None, [])


def remake(table: Tensor, kind: TableName, method: Method, used: int, rows: int) -> Tensor:
    """A table of ``rows`` rows in the dtype of the old one, whose first ``used`` rows are those of the old vocabulary.

    Args:
        table: ``(V, D)``, or ``(V,)`` for a bias.
        kind: which table it is.
        method: makes rows, each column by itself.
        used: size of the old vocabulary.
        rows: of the new table; what is more than the method makes has the rows that padded the old one.
    """
    flat = table.reshape(len(table), -1)
    new = torch.empty(rows, flat.shape[1], dtype=table.dtype)
    for start in range(0, flat.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        made = torch.from_numpy(method.rows(flat[:used, part].float().numpy(), kind))
        new[: len(made), part] = made.to(table.dtype)
        new[len(made) :, part] = flat[len(made) : rows, part]
    return new.reshape(rows, *table.shape[1:])


def _maker(
    kind: TableName,
    ready: Ready,
    rows: int,
    before: dict[str, np.ndarray[Any, Any]],
    after: dict[str, np.ndarray[Any, Any]],
) -> Callable[[Tensor], Tensor]:
    """Makes the new rows of a table, and keeps the lengths of rows before and after."""

    def made(table: Tensor) -> Tensor:
        if not table.is_floating_point() or table.dtype.itemsize == 1:
            raise EmbeddingError(
                f"the {kind} are stored as {table.dtype}, quantised: save the model in bfloat16 or float32"
            )
        new = remake(table, kind, ready.made, len(ready.old), rows)
        if kind is not TableName.BIAS:
            before[kind], after[kind] = (
                row_lengths(part)[: len(view)] for part, view in ((table, ready.old), (new, ready.new))
            )
        return new

    return made


def _check_shapes(model: Any, shapes: dict[str, tuple[int, ...]], tables: set[str]) -> None:
    """Refuses files with a tensor that would no longer fit the model, for it grows with the vocabulary and is no table."""
    for name, part in model.state_dict(keep_vars=True).items():
        if name in shapes and name not in tables and tuple(part.shape) != shapes[name]:
            raise EmbeddingError(
                f"{name} is of shape {shapes[name]} and must become {tuple(part.shape)}, which only a model that is built can: "
                "swap without --no-measure"
            )
