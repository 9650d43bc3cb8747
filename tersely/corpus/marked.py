r"""Documents whose parts differ: in whether the loss is on them, and in whether they may spell special tokens.

    segments   <|im_start|>user\n  hi <|im_end|>   <|im_end|>\n<|im_start|>assistant\n  hello<|im_end|>  \n
    trusted          yes                no                       yes                        yes         yes
    ids          7 "user\n"      "hi <|im_end|>"   8 "\n"   7  "assistant\n"             "hello" 8      "\n"
    trained          no                 no                       no                         yes          no

The text is cut at the special tokens that lie in trusted segments. What is between two of them is encoded in one piece,
whatever segments it is made of, as the libraries of vocabularies do: so the ids are theirs, unless a segment that is not
trusted spells a special token, which here stays text.

A token is trained if any byte that it was made of is: one across the border between a prompt and its completion counts to
the completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tersely.corpus.read import without_surrogates
from tersely.corpus.stretches import Marked as Marked
from tersely.corpus.stretches import Part, Stretch, stretcher
from tersely.corpus.stretches import Segment as Segment
from tersely.ragged import Ragged
from tersely.shards import IGNORED
from tersely.tokenize import Tokenizer, id_dtype


def encode_marked(
    documents: Sequence[Marked], tok: Tokenizer, bos: bool = False, eos: bool = False
) -> tuple[Ragged, Ragged]:
    """The ids of each document, and for each id whether the loss is on it: bool, at the same offsets.

    Args:
        documents: the documents.
        tok: any tokenizer; one without special tokens that text can spell encodes all text as text.
        bos: open each document with ``bos_id``, unless its text does so itself. It is not trained.
        eos: close each document with ``eos_id``, unless its text does so itself, blanks after it left aside. It is
            trained if the last segment that is more than blanks is.

    Raises:
        TokenizeError: as ``tok.encode``, with the index of the document; or the tokens of a document that is trained in
            part cannot be traced to their source.
    """
    tok.encode([], bos=bos, eos=eos)  # refuses to add what the vocabulary lacks
    cutter = stretcher(tok)
    drafts = [cutter.parts(document) for document in documents]
    owners = [number for number, parts in enumerate(drafts) for part in parts if isinstance(part, Stretch)]
    cutter.encode([part for parts in drafts for part in parts if isinstance(part, Stretch)], owners)
    rows = [_closed(*pair, tok, bos, eos) for pair in zip(drafts, documents, strict=True)]
    ids = Ragged.from_rows([row for row, _ in rows], id_dtype(tok.vocab_size))
    return ids, Ragged.from_rows([flags for _, flags in rows], np.bool_)


def labels_of(ids: Ragged, trained: Ragged) -> Ragged:
    """The labels of each row, int32: the id where it is trained, ``IGNORED`` elsewhere.

    They stand at the ids themselves, not one place before: models of transformers shift them.
    """
    signed = ids.values.astype(np.int32)  # IGNORED would wrap in the dtype of ids
    return Ragged(np.where(trained.values, signed, np.int32(IGNORED)), ids.offsets)


def count_untrained(trained: Ragged) -> int:
    """How many rows have nothing that the loss is on: they cost time and teach nothing."""
    before = np.concatenate([[0], np.cumsum(trained.values, dtype=np.int64)])
    return int((before[trained.offsets[1:]] == before[trained.offsets[:-1]]).sum())


def without_lone_surrogates(document: Marked) -> tuple[Marked, bool]:
    """The document with each lone surrogate replaced by U+FFFD, and whether there was one."""
    cleaned = [without_surrogates(segment.text) for segment in document]
    if not any(repaired for _, repaired in cleaned):
        return document, False
    pairs = zip(document, cleaned, strict=True)
    return tuple(Segment(text, part.trained, part.trusted) for part, (text, _) in pairs), True


def _closed(
    parts: list[Part], document: Marked, tok: Tokenizer, bos: bool, eos: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The ids of a document and whether each is trained, with what opens and closes it."""
    ids: list[Any] = []
    trained: list[Any] = []
    for part in parts:
        added, flag = (part.ids, part.trained) if isinstance(part, Stretch) else ([part[0]], part[1])
        ids.append(added)
        trained.append(np.full(len(added), flag))
    whole = np.concatenate([np.empty(0, np.int64), *ids])
    flags = np.concatenate([np.empty(0, np.bool_), *trained])
    lead, trail = (tok.bos_id if bos else None), (tok.eos_id if eos else None)
    if lead is not None and not (len(whole) and whole[0] == lead):
        whole, flags = np.append(lead, whole), np.append(False, flags)
    if trail is not None and not _is_closed(parts, trail):
        whole = np.append(whole, trail)
        written = [segment.trained for segment in document if segment.text.strip()]
        flags = np.append(flags, any(written[-1:]))
    return whole, flags


def _is_closed(parts: list[Part], eos_id: int) -> bool:
    """Whether the last of a document is its closing token, blanks left aside."""
    for part in reversed(parts):
        if not isinstance(part, Stretch):
            return part[0] == eos_id
        if part.text.strip():
            return False
    return False
