"""Layout: where things stand in a packed batch of words: rows of the model over words, and what is spelled from each row.

A document opens with a row of its own, and each row spells the word behind it, the last one the end of the document:

    rows       |     the    cat    |          N documents of W words in all: R = W + N rows
    spellings  the. cat. $  a.  $             W words with their end ``.`` and N ends ``$``: S = B + W + N symbols

Word ``w`` of document ``d`` is read in row ``w + d + 1`` and spelled from row ``w + d``. All of it is arithmetic on the
boundaries: nothing is read back from the device, as all sizes follow from those of the arguments.

Legend: ``B`` symbols of words (bytes, or ids of a subword tokenizer), ``W`` words, ``N`` documents, ``R`` rows, ``S`` symbols.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tersely.kernels.segment import segments_of_tokens


@dataclass(frozen=True, eq=False)
class Layout:
    """The places in a batch.

    Attributes:
        cu_rows: ``(N + 1,)``, int64: where documents begin among the rows.
        opening: ``(N,)``, int64: the row that opens each document.
        reading: ``(W,)``, int64: the row in which each word is read.
        symbols: ``(S,)``, int64: what is spelled.
        cu_symbols: ``(R + 1,)``, int64: where the spelling of each row begins.
    """

    cu_rows: Tensor
    opening: Tensor
    reading: Tensor
    symbols: Tensor
    cu_symbols: Tensor

    @property
    def spelled(self) -> Tensor:
        """The row that each word is spelled from, int64, ``(W,)``."""
        return self.reading - 1


def lay_out(ids: Tensor, cu_words: Tensor, cu_documents: Tensor, end_of_word: int) -> Layout:
    """The layout of packed documents of words.

    Args:
        ids: ``(B,)``, the symbols of all words.
        cu_words: ``(W + 1,)``: where words begin among them.
        cu_documents: ``(N + 1,)``: where documents begin among the words.
        end_of_word: the symbol behind a word; the next number is that behind a document.
    """
    device, documents, words = ids.device, len(cu_documents) - 1, len(cu_words) - 1
    cu_words, cu_documents = cu_words.long(), cu_documents.long()
    cu_rows = cu_documents + torch.arange(documents + 1, device=device)
    spelled = torch.arange(words, device=device) + segments_of_tokens(cu_documents, words)
    closing = cu_rows[1:] - 1
    lengths = torch.ones(words + documents, dtype=torch.int64, device=device)
    lengths[spelled] = cu_words.diff() + 1
    cu_symbols = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    symbols = ids.new_empty(len(ids) + words + documents, dtype=torch.int64)
    words_of_ids = segments_of_tokens(cu_words, len(ids))
    symbols[torch.arange(len(ids), device=device) + spelled[words_of_ids]] = ids.long()
    symbols.index_fill_(0, cu_symbols[spelled + 1] - 1, end_of_word)
    symbols.index_fill_(0, cu_symbols[closing], end_of_word + 1)
    return Layout(cu_rows, cu_rows[:-1], spelled + 1, symbols, cu_symbols)
