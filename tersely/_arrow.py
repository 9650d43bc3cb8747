"""Ragged to and from Arrow list arrays, without copying values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tersely.errors import RaggedError
from tersely.ragged import Ragged


def ragged_from_arrow(array: pa.Array | pa.ChunkedArray) -> Ragged:
    """See ``Ragged.from_arrow``."""
    if isinstance(array, pa.ChunkedArray):
        array = (
            array.chunk(0)
            if array.num_chunks == 1
            else pa.concat_arrays(array.chunks or [array.combine_chunks()])
        )
    if array.null_count:
        raise RaggedError(f"the Arrow array has {array.null_count} nulls: drop or fill them first")
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        offsets = _vector(array.offsets).astype(np.int64, copy=False)
        first, last = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
        values = _values(array.values.slice(first, last - first))
        return Ragged(values, offsets - first if first else offsets if len(offsets) else [0])
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        return _rebased(*_bytes_and_offsets(array, np.int32))
    if pa.types.is_large_binary(kind) or pa.types.is_large_string(kind):
        return _rebased(*_bytes_and_offsets(array, np.int64))
    raise RaggedError(f"an Arrow array of type {kind} has no rows: lists, strings and binaries do")


def _rebased(values: Any, offsets: np.ndarray[Any, Any]) -> Ragged:
    """A sliced Arrow array keeps its offsets: cut the values to them and let the offsets start at 0."""
    if len(offsets) == 0:
        return Ragged(values[:0], [0])
    first, last = int(offsets[0]), int(offsets[-1])
    return Ragged(values[first:last], offsets - first if first else offsets)


def _values(array: pa.Array) -> Any:
    if array.null_count:
        raise RaggedError(f"the values of the Arrow array have {array.null_count} nulls: fill them first")
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        flat = array.values.slice(array.offset * kind.list_size, len(array) * kind.list_size)
        items = _values(flat)
        if isinstance(items, Ragged):
            raise RaggedError(
                f"an Arrow array of {kind} has items that are lists of lists: flatten one level first"
            )
        return items.reshape(
            len(array), *([kind.list_size] if items.ndim == 1 else [kind.list_size, *items.shape[1:]])
        )
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _vector(array)
    if pa.types.is_boolean(kind):
        raise RaggedError("an Arrow array of booleans has eight to a byte: cast them to uint8 first")
    return ragged_from_arrow(array)


def _vector(array: pa.Array) -> np.ndarray[Any, Any]:
    """Numbers without nulls, not copied; not by ``to_numpy``, which would load pandas: 50 MB in every process."""
    dtype, data = np.dtype(array.type.to_pandas_dtype()), array.buffers()[1]
    if data is None:
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, len(array), array.offset * dtype.itemsize)


def _bytes_and_offsets(array: pa.Array, width: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    _, offsets_buffer, data = array.buffers()
    if offsets_buffer is None or not offsets_buffer.size:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(offsets_buffer, width)[array.offset : array.offset + len(array) + 1]
    values = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return values, offsets.astype(np.int64, copy=False)


def _array(values: np.ndarray[Any, Any]) -> pa.Array:
    """Numbers as an Arrow array, not copied if they are contiguous; ``pa.array`` would load pandas: half a second."""
    if values.dtype.kind not in "iuf" or not values.dtype.isnative:
        return pa.array(np.ascontiguousarray(values))
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])


def ragged_to_arrow(ragged: Ragged, large: bool) -> pa.Array:
    """See ``Ragged.to_arrow``."""
    ragged = ragged.to_numpy()
    if not large and len(ragged.values) > 2**31 - 1:
        raise RaggedError(f"{len(ragged.values)} values do not fit a list with int32 offsets: use large=True")
    if isinstance(ragged.values, Ragged):
        values = ragged_to_arrow(ragged.values, large)
    else:
        values = _array(ragged.values.reshape(-1))
        for width in reversed(ragged.values.shape[1:]):
            values = pa.FixedSizeListArray.from_arrays(values, width)
    offsets = _array(ragged.offsets if large else ragged.cu_seqlens)
    return (pa.LargeListArray if large else pa.ListArray).from_arrays(offsets, values)
