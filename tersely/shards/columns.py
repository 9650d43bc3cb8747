"""The columns of a shard: what each holds, and their form as Arrow lists. README.md has the layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tersely.ragged import Ragged

IGNORED = -100
"""The label of a token that is not trained on, as in torch and transformers."""

_KINDS = {
    "seq_lengths": "int32",
    "document_ids": "int64",
    "document_starts": "int64",
    "source_ids": "int32",
    "labels": "int32",
    "word_lengths": "int32",
}
OPTIONAL = ("labels", "word_lengths")
"""Columns that a shard may lack."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Packed rows, each column a Ragged with a row for each of them.

    Attributes:
        input_ids: the ids of each row.
        seq_lengths: for each row the tokens of its pieces; they sum to the length of the row.
        document_ids: for each piece the number of its document in the shard, from 0.
        document_starts: for each piece its first token's place in the document.
        source_ids: for each piece the number of its source in the manifest.
        labels: for each id itself, or ``IGNORED`` where it is not trained on; not shifted.
        word_lengths: for each row the tokens of its words; they sum to the length of the row.
    """

    input_ids: Ragged
    seq_lengths: Ragged
    document_ids: Ragged
    document_starts: Ragged
    source_ids: Ragged
    labels: Ragged | None = None
    word_lengths: Ragged | None = None

    @property
    def columns(self) -> dict[str, Ragged]:
        """The columns that are there, by name."""
        given = {name: getattr(self, name) for name in ("input_ids", *_KINDS)}
        return {name: column for name, column in given.items() if column is not None}


def column_dtypes(ids: np.dtype[Any], names: Sequence[str]) -> dict[str, str]:
    """The dtype of each column of these names, where ids are stored as ``ids``."""
    return {name: str(ids) if name == "input_ids" else _KINDS[name] for name in names}


def required_columns(optional: Sequence[str]) -> list[str]:
    """The names of all columns, in their order, of shards that have these optional ones."""
    return ["input_ids", *(name for name in _KINDS if name not in OPTIONAL or name in optional)]


def features(ids: np.dtype[Any], names: Sequence[str]) -> dict[str, Any]:
    """The columns as ``datasets`` describes them."""
    return {
        name: {"feature": {"dtype": kind, "_type": "Value"}, "_type": "List"}
        for name, kind in column_dtypes(ids, names).items()
    }


def to_record_batch(shard: Shard, ids: np.dtype[Any]) -> pa.RecordBatch:
    """The shard as one Arrow record batch, with the metadata that ``datasets`` looks for."""
    kinds = column_dtypes(ids, list(shard.columns))
    schema = pa.schema(
        [(name, pa.list_(pa.type_for_alias(kind))) for name, kind in kinds.items()],
        metadata={"huggingface": json.dumps({"info": {"features": features(ids, list(kinds))}})},
    )
    arrays = [_list_array(column, np.dtype(kinds[name])) for name, column in shard.columns.items()]
    return pa.record_batch(arrays, schema=schema)


def _list_array(rows: Ragged, dtype: np.dtype[Any]) -> pa.Array:
    return Ragged(rows.values.astype(dtype, copy=False), rows.offsets).to_arrow(large=False)
