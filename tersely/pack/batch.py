"""One packed batch for a model: rows of several documents, without padding and without leaks between them.

    documents   a a a b b c c c          input_ids     a0 a1 a2 b0 b1 c0 c1 c2        shape (1, T)
                                         labels         .  a1 a2  . b1  . c1 c2       . is -100
                                         position_ids   0  1  2  0  1  0  1  2
                                         cu_seq_lens_q  0        3     5        8     shape (N + 1,), int32
                                         seq_idx        0  0  0  1  1  2  2  2

A model predicts token t + 1 from token t and shifts ``labels`` itself, so the first token of a document has no label:
nothing is predicted across a boundary.

Legend: ``T`` packed tokens, ``N`` segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tersely.errors import PackError
from tersely.pack.isolate import Isolator
from tersely.ragged import Ragged

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NO_LABEL = -100
"""The label that losses of torch and transformers leave out."""


class PackedBatch(dict[str, Any]):
    """A mapping that goes straight into ``model(**batch)``; made by ``PackedCollator``.

    Keys: ``input_ids``, ``labels``, ``position_ids`` (int64, shape ``(1, T)``), ``seq_idx`` (int32, ``(1, T)``: the
    segment of each token, for convolution and state-space layers), ``cu_seq_lens_q`` and ``cu_seq_lens_k`` (int32,
    ``(N + 1,)``), ``max_length_q`` and ``max_length_k`` (Python ints, so that no layer waits for the device), and
    ``attention_mask`` where the model's attention needs one to keep documents apart.
    """

    @property
    def cu_seqlens(self) -> torch.Tensor:
        """Boundaries of the segments, shape ``(N + 1,)``, int32."""
        return self["cu_seq_lens_q"]

    def split(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Per-token values of shape ``(1, T, ...)``, such as logits, as one tensor for each segment."""
        return list(torch.split(values[0], torch.diff(self.cu_seqlens).tolist()))

    def to(self, device: Any) -> PackedBatch:
        """The batch with its tensors (and masks) on ``device``."""
        return PackedBatch({key: to_device(value, device) for key, value in self.items()})


def to_device(value: Any, device: Any) -> Any:
    """``value`` on ``device``, if it can be there; mappings with all that is in them."""
    if isinstance(value, Mapping):
        return {key: to_device(inner, device) for key, inner in value.items()}
    return value.to(device) if hasattr(value, "to") else value


class PackedCollator:
    """Makes one ``PackedBatch`` of packed rows; for torch's DataLoader, HF ``Trainer`` and TRL's ``SFTTrainer``.

    Args:
        model: the model the batch is for. Its attention then gets what it needs to keep documents apart, because
            transformers sees the boundaries by itself only where no cache and no mask is in use, and leaks in
            silence elsewhere: a 4-D mask for ``eager`` and ``sdpa``, a ``BlockMask`` for ``flex_attention`` (made on
            the model's device, so not in worker processes), sliding windows included; nothing for flash attention,
            which reads ``cu_seq_lens_*``. Without a model no mask is made: right for flash attention only. Keys
            that the model's ``forward`` does not take are left out.
        pad_to_multiple_of: make ``T`` a multiple of it. The padding is one more segment, without labels, so it
            belongs to no document and is none.
        pad_id: the id it is filled with.

    A row is a mapping with ``input_ids`` and ``seq_lengths``, and with ``labels`` where they are not the ``input_ids``
    (the first label of each document is masked in any case). All rows of a batch become one row of the model's input.
    HF ``Trainer`` takes ``seq_lengths`` away unless it is given ``remove_unused_columns=False``.
    """

    def __init__(
        self, model: PreTrainedModel | None = None, pad_to_multiple_of: int | None = None, pad_id: int = 0
    ) -> None:
        self._isolator = Isolator(model) if model is not None else None
        self._multiple = pad_to_multiple_of or 1
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> PackedBatch:
        """The batch of these rows.

        Raises:
            PackError: the rows are empty, ``seq_lengths`` is missing (documents would see each other), or it or
                ``labels`` do not fit ``input_ids``.
        """
        ids = [_vector(row["input_ids"]) for row in rows]
        labels = [
            _vector(row["labels"]) if "labels" in row else own for row, own in zip(rows, ids, strict=True)
        ]
        lengths = [_vector(_seq_lengths(row, number)) for number, row in enumerate(rows)]
        for number, (own, label, length) in enumerate(zip(ids, labels, lengths, strict=True)):
            if length.sum() != len(own) or len(label) != len(own) or (length < 0).any():
                raise PackError(
                    f"row {number} has {len(own)} ids, {len(label)} labels and seq_lengths that sum to {length.sum()}"
                )
        flat, targets, sizes = (
            np.concatenate([np.empty(0, np.int64), *part]) for part in (ids, labels, lengths)
        )
        return self._batch(flat, targets, sizes[sizes > 0])

    def _batch(self, ids: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> PackedBatch:
        padding = -len(ids) % self._multiple
        if len(ids) == 0:
            raise PackError("the rows of the batch have no tokens: leave empty rows out")
        ids = np.concatenate([ids, np.full(padding, self._pad_id)])
        labels = np.concatenate([labels, np.full(padding, NO_LABEL)])
        offsets = np.concatenate([[0], np.cumsum(lengths), [len(ids)] if padding else []]).astype(np.int64)
        segments = Ragged(ids, offsets)
        labels[offsets[:-1]] = NO_LABEL
        longest = segments.max_seqlen
        boundaries = torch.from_numpy(segments.cu_seqlens)
        batch = PackedBatch(
            input_ids=torch.from_numpy(ids)[None],
            labels=torch.from_numpy(labels)[None],
            position_ids=torch.from_numpy(segments.positions)[None],
            seq_idx=torch.from_numpy(segments.segment_ids.astype(np.int32))[None],
            cu_seq_lens_q=boundaries,
            cu_seq_lens_k=boundaries,
            max_length_q=longest,
            max_length_k=longest,
        )
        if self._isolator is None:
            return batch
        if (mask := self._isolator.mask(batch["position_ids"])) is not None:
            batch["attention_mask"] = mask
        accepted = self._isolator.accepted
        return PackedBatch(
            {key: value for key, value in batch.items() if accepted is None or key in accepted}
        )


def _seq_lengths(row: Mapping[str, Any], number: int) -> Any:
    if row.get("seq_lengths") is None:
        raise PackError(
            f"row {number} has no seq_lengths, so its documents cannot be told apart: give HF Trainer "
            "remove_unused_columns=False, or add seq_lengths=[len(input_ids)] to a row that is one document"
        )
    return row["seq_lengths"]


def _vector(values: Any) -> np.ndarray:
    array = values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    return array.astype(np.int64)
