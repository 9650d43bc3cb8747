"""Documents of words as the tensors that a WordPooledLM takes.

Legend: ``T`` bytes, ``W`` words, ``N`` documents, ``P`` pieces (ids of a subword tokenizer).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tersely.errors import UsageError
from tersely.ragged import Ragged
from tersely.tokenize import Tokenizer


@dataclass(frozen=True, eq=False)
class WordBatch:
    """Packed documents of words, on one device.

    Attributes:
        input_ids: ``(T,)``, integers, the bytes.
        word_cu_seqlens: ``(W + 1,)``, int32 or int64: where words begin among the bytes.
        cu_seqlens: ``(N + 1,)``, the same: where documents begin among the words.
        piece_ids: ``(P,)``, integers, the words in the ids of a subword tokenizer, if the model spells in these.
        piece_cu_seqlens: ``(W + 1,)``: where words begin among them.
    """

    input_ids: Tensor
    word_cu_seqlens: Tensor
    cu_seqlens: Tensor
    piece_ids: Tensor | None = None
    piece_cu_seqlens: Tensor | None = None

    @staticmethod
    def from_words(
        words: Ragged, device: torch.device | str | None = None, tokenizer: Tokenizer | None = None
    ) -> WordBatch:
        """From documents -> words -> bytes, as ``tersely.tokenize.segment_pieces`` gives them.

        Args:
            words: nested, of uint8.
            device: where the tensors are made.
            tokenizer: gives the pieces of each word, which it sees as a text of its own.

        Raises:
            UsageError: these are no documents of words.
        """
        if not isinstance(words.values, Ragged) or isinstance(words.values.values, Ragged):
            raise UsageError("words must be documents of words of bytes: give what tokenize.segment gives")
        nested = words.to_torch(device, torch.int64)
        pieces = None
        if tokenizer is not None:
            pieces = tokenizer.encode(words.values).to_torch(device, torch.int64)
        return WordBatch(
            nested.values.values,
            nested.values.offsets,
            nested.offsets,
            None if pieces is None else pieces.values,
            None if pieces is None else pieces.offsets,
        )
