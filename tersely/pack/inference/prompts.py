"""Prompts as users have them, strings, lists of ids or a padded batch with its mask, as one array of ids each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tersely.errors import PackError
from tersely.ragged import Ragged

Ids = np.ndarray[Any, np.dtype[np.int64]]


def prompt_ids(prompts: Any, tokenizer: Any = None, attention_mask: Any = None) -> list[Ids]:
    """The ids of each prompt, int64.

    Args:
        prompts: strings (with ``tokenizer``), sequences of ids, a ``Ragged``, or a padded batch ``(N, L)`` with
            ``attention_mask``; or a mapping with ``input_ids`` and ``attention_mask``, as a tokenizer returns it.
        tokenizer: of transformers, or one of tersely's.
        attention_mask: ``(N, L)``, 1 for tokens and 0 for padding.

    Raises:
        PackError: no prompts, one without tokens, or a mask that does not fit.
    """
    if isinstance(prompts, Mapping):
        attention_mask = prompts.get("attention_mask") if attention_mask is None else attention_mask
        prompts = prompts["input_ids"]
    if isinstance(prompts, str):
        raise PackError("prompts is one string: give a list of them")
    if attention_mask is not None:
        rows = _unpadded(prompts, attention_mask)
    else:
        rows = [*_rows(prompts)]
        if any(isinstance(row, str | bytes) for row in rows):
            rows = encode(tokenizer, rows)
    found = [_vector(row, number) for number, row in enumerate(rows)]
    if not found:
        raise PackError("there are no prompts: give at least one")
    for number, row in enumerate(found):
        if not len(row):
            raise PackError(
                f"prompt {number} has no tokens: give it at least one, such as a beginning-of-sequence token"
            )
    return found


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """Ids of texts, never truncated, whatever the tokenizer's own settings are.

    Raises:
        PackError: there is no tokenizer.
    """
    if tokenizer is None:
        raise PackError(
            "the prompts are text and there is no tokenizer: give one where the function takes it, or lists of ids"
        )
    if not callable(tokenizer):
        return [*_rows(tokenizer.encode(list(texts)))]
    ids: Any = tokenizer(list(texts), truncation=False, padding=False)
    return ids["input_ids"]


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of ids, special tokens left out where the tokenizer can."""
    if not callable(tokenizer):
        [text] = tokenizer.decode(Ragged.from_rows([np.asarray(ids, np.int64)]))
        return bytes(text).decode("utf-8", "replace")
    of_transformers: Any = tokenizer
    return of_transformers.decode(list(ids), skip_special_tokens=True)


def _rows(prompts: Any) -> Any:
    if isinstance(prompts, Ragged):
        return (prompts[i] for i in range(len(prompts)))
    if hasattr(prompts, "dim") and prompts.dim() != 2:
        raise PackError(
            f"a tensor of prompts has shape {tuple(prompts.shape)}: give (N, L), or a list of vectors"
        )
    return prompts


def _vector(row: Any, number: int) -> Ids:
    array = np.asarray(row.cpu() if hasattr(row, "cpu") else row)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise PackError(
            f"prompt {number} is no sequence of ids: it has shape {array.shape}, dtype {array.dtype}"
        )
    return array.astype(np.int64)


def _unpadded(ids: Any, mask: Any) -> list[Any]:
    """Rows of a padded batch without their padding."""
    ids, mask = (np.asarray(x.cpu() if hasattr(x, "cpu") else x) for x in (ids, mask))
    if ids.shape != mask.shape or ids.ndim != 2:
        raise PackError(
            f"attention_mask has shape {mask.shape}, but the prompts {ids.shape}: give one 0 or 1 for each id"
        )
    if not np.isin(mask, (0, 1)).all():
        raise PackError(
            "attention_mask has values other than 0 and 1: give 1 for each token and 0 for padding"
        )
    holes = (np.diff(mask.astype(np.int8), axis=1, prepend=0) > 0).sum(1) > 1
    if holes.any():
        raise PackError(
            f"attention_mask of prompt {int(holes.argmax())} has padding between tokens: move it to one end of the row"
        )
    return [row[keep.astype(bool)] for row, keep in zip(ids, mask, strict=True)]
