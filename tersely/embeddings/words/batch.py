"""Documents of words as the tensors that a WordPooledLM takes.

Legend: ``T`` bytes, ``W`` words, ``N`` documents, ``P`` subword pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tersely.errors import UsageError
from tersely.ragged import Ragged


@dataclass(frozen=True, eq=False)
class WordBatch:
    """Packed documents of words, on one device.

    Attributes:
        input_ids: ``(T,)``, int64, the bytes.
        word_cu_seqlens: ``(W + 1,)``, int64, where words begin among the bytes.
        cu_seqlens: ``(N + 1,)``, int64, where documents begin among the words.
    """

    input_ids: Tensor
    word_cu_seqlens: Tensor
    cu_seqlens: Tensor

    @staticmethod
    def from_words(words: Ragged, device: torch.device | str | None = None) -> WordBatch:
        """From documents -> words -> bytes, as ``tersely.tokenize.segment_pieces`` gives them.

        Raises:
            UsageError: these are no documents of words.
        """
        if not isinstance(words.values, Ragged) or isinstance(words.values.values, Ragged):
            raise UsageError("words must be documents of words of bytes: give what tokenize.segment gives")
        nested = words.to_torch(device, torch.int64)
        return WordBatch(nested.values.values, nested.values.offsets, nested.offsets)
