"""Ragged: rows of different lengths, stored as one flat array and the offsets between its rows.

A document is bytes; a corpus is bytes with offsets; words, tokens and packs are offsets again. All of them are
this one type, so nothing is padded until a peer that only knows padding asks for it.

    values   a b c d e f g          offsets   0 3 3 7          (three rows, the middle one empty)
             [row 0][---row 2--]              |----->| lengths 3 0 4

Legend: ``n`` rows, ``total`` values, ``item`` the shape of one value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from tersely.errors import RaggedError
from tersely.gather import gather_rows

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

Array: TypeAlias = "np.ndarray[Any, Any] | torch.Tensor"
Values: TypeAlias = "Array | Ragged"

_INT32_MAX = 2**31 - 1


class Ragged:
    """Rows of different lengths over one flat array; immutable, and cheap to slice.

    Args:
        values: shape ``(total, *item)``, a numpy array, a torch tensor, or another ``Ragged`` (documents -> words
            -> bytes). It is kept, not copied; numpy values become read-only through this object.
        offsets: shape ``(n + 1,)``, integers, ``offsets[0] == 0``, non-decreasing, ``offsets[-1] == total``.
            Kept as int64, as a tensor on the device of ``values`` if those are a tensor, else as numpy.

    Raises:
        RaggedError: the offsets break one of these rules; the message names the first place. (For tensors on a
            GPU this check waits for the device.)
    """

    __slots__ = ("offsets", "values")
    values: Any
    offsets: Any

    def __init__(self, values: Values, offsets: Array | Sequence[int]) -> None:
        offsets = _as_offsets(offsets, like=values)
        _check(offsets, len(values))
        _fill(self, values, offsets)

    # -- shape ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Any:
        """Row lengths, shape ``(n,)``, int64, of the kind (numpy or torch) of ``offsets``."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def segment_ids(self) -> Any:
        """For every value the row it belongs to, shape ``(total,)``, int64."""
        if _is_tensor(self.offsets):
            import torch

            rows = torch.arange(len(self), device=self.offsets.device)
            return torch.repeat_interleave(rows, self.lengths, output_size=len(self.values))
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def positions(self) -> Any:
        """For every value its place in its row, counted from 0, shape ``(total,)``, int64."""
        starts = self.offsets[:-1][self.segment_ids]
        if _is_tensor(starts):
            import torch

            return torch.arange(len(starts), device=starts.device) - starts
        return np.arange(len(starts)) - starts

    @property
    def cu_seqlens(self) -> Any:
        """``offsets`` as int32, shape ``(n + 1,)``: what variable-length attention kernels take.

        Raises:
            RaggedError: there are more than ``2**31 - 1`` values.
        """
        if len(self.values) > _INT32_MAX:
            raise RaggedError(
                f"{len(self.values)} values do not fit int32 cu_seqlens: slice the rows into batches"
            )
        if _is_tensor(self.offsets):
            import torch

            return self.offsets.to(torch.int32)
        return self.offsets.astype(np.int32)

    @property
    def max_seqlen(self) -> int:
        """The length of the longest row, 0 if there is none (waits for the device if ``offsets`` is on one)."""
        return int(self.lengths.max()) if len(self) else 0

    # -- rows -------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        """Row ``index``, or a ``Ragged`` of the rows of a slice (no copy for step 1) or of an index array."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.take(np.arange(start, stop, step))
            stop = max(start, stop)
            offsets = self.offsets[start : stop + 1]
            first, last = int(offsets[0]), int(offsets[-1])
            return _trusted(self.values[first:last], offsets - first)
        if isinstance(index, int | np.integer):
            row = int(index)
            if not -len(self) <= row < len(self):
                raise IndexError(f"row {row} of a Ragged of {len(self)} rows")
            row %= len(self)
            return self.values[int(self.offsets[row]) : int(self.offsets[row + 1])]
        return self.take(index)

    def __iter__(self) -> Iterator[Any]:
        bounds: list[int] = self.offsets.tolist()
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            yield self.values[start:stop]

    def take(self, rows: Array | Sequence[int]) -> Ragged:
        """The given rows, in the given order, repeats allowed; ``rows`` has shape ``(m,)``, integers.

        Costs one copy of the taken values. Raises IndexError if a row does not exist.
        """
        chosen = _as_offsets(rows, like=self.values)
        if len(chosen) and not (0 <= int(chosen.min()) and int(chosen.max()) < len(self)):
            raise IndexError(f"rows {int(chosen.min())}..{int(chosen.max())} of a Ragged of {len(self)} rows")
        starts, lengths = self.offsets[:-1][chosen], self.lengths[chosen]
        offsets = _cumulative(lengths)
        if isinstance(self.values, np.ndarray):
            return _trusted(gather_rows(self.values, starts, offsets), offsets)
        taken = _trusted(range(int(offsets[-1])), offsets)  # only its shape is used
        source = taken.positions + starts[taken.segment_ids]
        nested = isinstance(self.values, Ragged)
        return _trusted(self.values.take(source) if nested else self.values[source], offsets)

    @classmethod
    def concat(cls, parts: Sequence[Ragged]) -> Ragged:
        """All rows of all parts, one after another; the parts are of one kind and item shape."""
        if not parts:
            raise RaggedError("concat of no parts: there is no dtype to give the result")
        lengths = [part.lengths for part in parts]
        if isinstance(parts[0].values, Ragged):
            values: Any = Ragged.concat([part.values for part in parts])
        elif _is_tensor(parts[0].values):
            import torch

            values = torch.cat([part.values for part in parts])
        else:
            values = np.concatenate([part.values for part in parts])
        if _is_tensor(parts[0].offsets):
            import torch

            return _trusted(values, _cumulative(torch.cat(lengths)))
        return _trusted(values, _cumulative(np.concatenate(lengths)))

    @classmethod
    def from_rows(cls, rows: Iterable[Any], dtype: Any = None) -> Ragged:
        """From row arrays, lists of numbers, ``bytes`` (as uint8), tensors, or ``Ragged`` rows (gives a nested one).

        Args:
            rows: the rows; their items have one shape.
            dtype: numpy dtype of the values; by default that of the rows (float64 if there are none).
        """
        items = list(rows)
        offsets = _cumulative(np.fromiter((len(row) for row in items), np.int64, len(items)))
        if items and isinstance(items[0], Ragged):
            return cls(Ragged.concat(items), offsets)
        if items and _is_tensor(items[0]):
            import torch

            return cls(torch.cat(items), offsets)
        if items and isinstance(items[0], bytes | bytearray | memoryview):
            return cls(np.frombuffer(b"".join(items), np.uint8), offsets)
        if not items:
            return cls(np.empty(0, dtype), offsets)
        filled = [np.asarray(row, dtype) for row in items]
        wanted = np.result_type(*{row.dtype for row in filled if len(row)} or {filled[0].dtype})
        return cls(np.concatenate([row.astype(wanted, copy=False) for row in filled]), offsets)

    # -- other layouts ----------------------------------------------------------------------------------------

    @classmethod
    def from_arrow(cls, array: pa.Array | pa.ChunkedArray) -> Ragged:
        """From an Arrow (large) list, string or binary array, sliced or not, nested or not.

        The values are not copied (a ``ChunkedArray`` of several chunks is concatenated first); int32 offsets are
        widened. Strings and binaries become rows of UTF-8 bytes, uint8.

        Raises:
            RaggedError: the array has nulls, or values that Arrow does not keep as whole numbers of bytes.
        """
        from tersely._arrow import ragged_from_arrow

        return ragged_from_arrow(array)

    def to_arrow(self, large: bool = True) -> pa.Array:
        """As an Arrow list array: ``LargeList`` (int64 offsets, nothing copied), or ``List`` if not ``large``."""
        from tersely._arrow import ragged_to_arrow

        return ragged_to_arrow(self, large)

    def to_torch(self, device: Any = None, dtype: Any = None) -> Ragged:
        """With values and offsets as tensors on ``device``; numpy values are copied (tensors have no read-only)."""
        import torch

        if isinstance(self.values, Ragged):
            offsets = torch.as_tensor(_numpy(self.offsets).copy(), device=device)
            return _trusted(self.values.to_torch(device, dtype), offsets)
        if _is_tensor(self.values):
            return _trusted(self.values.to(device=device, dtype=dtype), self.offsets.to(device=device))
        return _trusted(
            torch.tensor(self.values, dtype=dtype, device=device), torch.tensor(self.offsets, device=device)
        )

    def to_numpy(self) -> Ragged:
        """With values and offsets as numpy arrays: the same memory where the tensor is on the CPU; bfloat16, which
        numpy lacks, becomes float32.
        """
        if isinstance(self.values, Ragged):
            return _trusted(self.values.to_numpy(), _numpy(self.offsets))
        return _trusted(_numpy(self.values), _numpy(self.offsets))

    def to_padded(self, fill: Any = 0) -> Any:
        """A dense array of shape ``(n, max_seqlen, *item)``, rows at the left and ``fill`` after them."""
        if isinstance(self.values, Ragged):
            raise RaggedError(
                "to_padded of a nested Ragged: pad its inner rows first (ragged.values.to_padded())"
            )
        shape = (len(self), self.max_seqlen, *self.values.shape[1:])
        if _is_tensor(self.values):
            padded = self.values.new_full(shape, fill)
        else:
            padded = np.full(shape, fill, self.values.dtype)
        _signed(padded)[self.segment_ids, self.positions] = _signed(self.values)
        return padded

    @classmethod
    def from_padded(cls, padded: Array, lengths: Array | Sequence[int]) -> Ragged:
        """The first ``lengths[i]`` items of each row of ``padded``, shape ``(n, width, *item)``."""
        counts = _as_offsets(lengths, like=padded)
        if len(counts) != len(padded) or (len(counts) and int(counts.max()) > padded.shape[1]):
            raise RaggedError(
                f"lengths of {len(counts)} rows do not fit a padded array of shape {padded.shape}"
            )
        if len(counts) and int(counts.min()) < 0:
            raise RaggedError("a length is negative")
        shape = _trusted(range(int(counts.sum())), _cumulative(counts))
        return _trusted(padded[shape.segment_ids, shape.positions], shape.offsets)

    def to_nested(self, device: Any = None) -> torch.Tensor:
        """A torch nested tensor of the jagged layout, for code that takes those."""
        import torch

        if isinstance(self.values, Ragged):
            raise RaggedError("to_nested of a nested Ragged: torch has one level of raggedness")
        rows = self.to_torch(device)
        return torch.nested.nested_tensor_from_jagged(rows.values, rows.offsets)

    def to_list(self) -> list[Any]:
        """Plain Python lists, for tests and printing."""
        return [row.to_list() if isinstance(row, Ragged) else row.tolist() for row in self]

    def equals(self, other: Ragged) -> bool:
        """Whether both have the same rows with the same values (kind and integer width may differ)."""
        mine, theirs = self.to_numpy(), other.to_numpy()
        if not np.array_equal(mine.offsets, theirs.offsets):
            return False
        if isinstance(mine.values, Ragged) or isinstance(theirs.values, Ragged):
            both = isinstance(mine.values, Ragged) and isinstance(theirs.values, Ragged)
            return both and mine.values.equals(theirs.values)
        return np.array_equal(mine.values, theirs.values)

    # -- being an immutable value -------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Ragged is immutable: make a new one instead of setting {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Ragged, (self.values, self.offsets)

    def __repr__(self) -> str:
        inner = (
            repr(self.values)
            if isinstance(self.values, Ragged)
            else f"{len(self.values)} {self.values.dtype}"
        )
        return f"Ragged({len(self)} rows of {inner})"


def _trusted(values: Any, offsets: Any) -> Ragged:
    """A Ragged whose offsets are right by construction: not checked, so no wait for a device."""
    ragged = object.__new__(Ragged)
    _fill(ragged, values, offsets)
    return ragged


def _fill(ragged: Ragged, values: Any, offsets: Any) -> None:
    object.__setattr__(ragged, "values", _read_only(values))
    object.__setattr__(ragged, "offsets", _read_only(offsets))


def _read_only(array: Any) -> Any:
    if isinstance(array, np.ndarray) and array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return cast("Any", array)


def _is_tensor(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def _numpy(array: Any) -> np.ndarray[Any, Any]:
    if not _is_tensor(array):
        return array
    array = array.detach().cpu()
    return (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()


def _signed(array: Any) -> Any:
    """The same bits as signed integers, where torch cannot index unsigned ones."""
    if _is_tensor(array) and str(array.dtype) in ("torch.uint16", "torch.uint32", "torch.uint64"):
        import torch

        return array.view(getattr(torch, str(array.dtype).removeprefix("torch.u")))
    return array


def _leaf(values: Any) -> Any:
    while isinstance(values, Ragged):
        values = values.values
    return values


def _as_offsets(offsets: Any, like: Any) -> Any:
    """``offsets`` as an int64 vector, a tensor on the device of ``like`` if that is one (or holds one)."""
    leaf = _leaf(like)
    if _is_tensor(leaf):
        import torch

        tensor = torch.as_tensor(offsets, device=leaf.device)
        integers = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
        if tensor.ndim != 1 or (tensor.numel() and not integers):
            raise RaggedError(
                f"offsets, lengths and rows are vectors of integers, not {tensor.dtype} {tensor.shape}"
            )
        return tensor.to(torch.int64)
    array = np.asarray(_numpy(offsets))
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise RaggedError(
            f"offsets, lengths and rows are vectors of integers, not {array.dtype} {array.shape}"
        )
    return array.astype(np.int64, copy=False)


def _check(offsets: Any, total: int) -> None:
    if len(offsets) == 0:
        raise RaggedError("offsets is empty: no rows are offsets [0]")
    if int(offsets[0]) != 0:
        raise RaggedError(f"offsets[0] is {int(offsets[0])}, not 0")
    falling = offsets[1:] < offsets[:-1]
    if bool(falling.any()):
        row = int(_numpy(falling).argmax())
        raise RaggedError(f"offsets fall from {int(offsets[row])} to {int(offsets[row + 1])} at row {row}")
    if int(offsets[-1]) != total:
        raise RaggedError(f"offsets end at {int(offsets[-1])}, but there are {total} values")


def _cumulative(lengths: Any) -> Any:
    """Offsets of rows with these lengths."""
    if _is_tensor(lengths):
        import torch

        return torch.nn.functional.pad(torch.cumsum(lengths, 0, dtype=torch.int64), (1, 0))
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
