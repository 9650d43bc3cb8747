"""Batches to train on: texts in the ids of the model and in those of a tokenizer that was drawn for the batch.

The number of a batch decides all that is in it, whichever process makes it, so a run may go on anywhere.

    B texts; T ids of a row, padded; N tokens that the new rows are made for; E places where both tokenizers end a word
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from torch.utils.data import Dataset

from tersely.embeddings.transfer.hypernet.surface import (
    Surface,
    SurfaceReader,
    counted,
    join,
    log_shares,
    special_surface,
)
from tersely.embeddings.transfer.hypernet.vocabularies import Vocabularies, Vocabulary
from tersely.embeddings.transfer.passages import part_of
from tersely.embeddings.transfer.quality import opening_id
from tersely.embeddings.transfer.vocabulary import backend

_WORD = re.compile(r"\w+|[^\w\s]+")


@dataclass(frozen=True)
class Batch:
    """Texts in both ids.

    Attributes:
        old_ids: int32, ``(B, T)``, with zeros behind; special tokens of the model around each text.
        old_lengths: int64, ``(B,)``.
        new_ids: the same in numbers of the batch, below N.
        new_lengths: int64, ``(B,)``.
        ends: int64, ``(3, E)``: row, place in the old ids, place in the new ids of the tokens that end a word.
        surface: of the N tokens.
        log_weights: float32, ``(N,)``: a token stands for so many of the drawn vocabulary in a softmax, in logarithms.
        size: bytes of all texts.
    """

    old_ids: np.ndarray[Any, Any]
    old_lengths: np.ndarray[Any, Any]
    new_ids: np.ndarray[Any, Any]
    new_lengths: np.ndarray[Any, Any]
    ends: np.ndarray[Any, Any]
    surface: Surface
    log_weights: np.ndarray[Any, Any]
    size: int


class Source:
    """The model's tokenizer: ids of texts, and the special tokens around them.

    Args:
        tokenizer: fast, of transformers.
        opened: whether a text needs a special token in front, as a decoder does.
        longest: ids of a row, special tokens included.
    """

    def __init__(self, tokenizer: Any, opened: bool, longest: int) -> None:
        self._library = Tokenizer.from_str(backend(tokenizer).to_str())
        self._library.no_truncation()
        self._library.no_padding()
        ids: list[int] = list(tokenizer("a")["input_ids"])
        bare: list[int] = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        start = next(at for at in range(len(ids)) if ids[at : at + len(bare)] == bare)
        self.before, self.after = ids[:start], ids[start + len(bare) :]
        first = opening_id(tokenizer)
        if opened and first is not None and not self.before:
            self.before = [first]
        self._longest = longest - len(self.before) - len(self.after)

    def encode(self, texts: Sequence[str]) -> list[_Row]:
        """Each text without the special tokens."""
        found = self._library.encode_batch(list(texts), add_special_tokens=False)
        return [_Row.of(one, self._longest) for one in found]

    def encode_by(self, vocabulary: Vocabulary, texts: Sequence[str]) -> list[_Row]:
        """The same by a tokenizer that was drawn; what it cannot spell is left out."""
        found = vocabulary.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [_Row.of(one, self._longest, vocabulary.unknown) for one in found]


class Frequencies:
    """How often tokens occur in a sample of the texts.

    Args:
        source: the model's tokenizer.
        texts: the sample.
        size: tokens of the model.
    """

    def __init__(self, source: Source, texts: Sequence[str], size: int) -> None:
        self._source, self._texts = source, texts
        self.of_pieces = _shares_in(source.encode(texts), size)

    def of(self, vocabulary: Vocabulary) -> np.ndarray[Any, Any]:
        """Logarithms of the shares of the tokens that were drawn, float64 ``(V_new,)``."""
        return _shares_in(self._source.encode_by(vocabulary, self._texts), len(vocabulary.tokens))


@dataclass(frozen=True)
class _Row:
    """A text as ids, and the character at which each ends."""

    ids: np.ndarray[Any, Any]
    ends: np.ndarray[Any, Any]

    @classmethod
    def of(cls, encoding: Any, longest: int, unknown: int = -1) -> _Row:
        ids = np.array(encoding.ids[:longest], np.int64)
        ends = np.array(encoding.offsets[:longest], np.int64).reshape(-1, 2)[:, 1]
        known = ids != unknown
        return cls(ids[known], ends[known])

    def places(self, word_ends: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """For each end of a word the last token that ends there, -1 if there is none."""
        if not len(self.ends):
            return np.full(len(word_ends), -1)
        place = np.searchsorted(self.ends, word_ends, side="right") - 1
        return np.where(self.ends[place] == word_ends, place, -1)


class Batches(Dataset[Batch]):
    """Batch ``number`` of a run.

    Args:
        texts: passages.
        source: the model's tokenizer.
        reader: surfaces of tokens.
        vocabularies: what tokenizers are drawn from; or some that are used in turn.
        batch: texts of a batch.
        classes: tokens of the vocabulary that a softmax runs over, at least, of which the batch has no use; 0 for encoders.
        seed: of the run.
        frequencies: what tells how often tokens occur, if anything does.
    """

    def __init__(
        self,
        texts: Sequence[str],
        source: Source,
        reader: SurfaceReader,
        vocabularies: Vocabularies | Sequence[Vocabulary],
        *,
        batch: int,
        classes: int,
        seed: int,
        frequencies: Frequencies | None = None,
    ) -> None:
        self._texts, self._source, self._reader = texts, source, reader
        self._vocabularies, self._batch, self._classes, self._seed = vocabularies, batch, classes, seed
        self._frequencies = frequencies

    def __getitem__(self, number: int) -> Batch:
        generator = np.random.default_rng([self._seed, number])
        if isinstance(self._vocabularies, Vocabularies):
            vocabulary = self._vocabularies.draw(generator)
        else:
            vocabulary = self._vocabularies[number % len(self._vocabularies)]
        places = generator.integers(len(self._texts), size=self._batch)
        texts = [part_of(str(self._texts[place]), generator) for place in places.tolist()]
        return self._made(texts, vocabulary, generator)

    def _made(self, texts: list[str], vocabulary: Vocabulary, generator: np.random.Generator) -> Batch:
        source = self._source
        old, new = source.encode(texts), source.encode_by(vocabulary, texts)
        used, numbers = np.unique(np.concatenate([row.ids for row in new]), return_inverse=True)
        others, log_weight = self._others(vocabulary, used, generator)
        around = [*source.before, *source.after]
        numbered = np.concatenate([used, others])
        surface = self._reader([vocabulary.tokens[number] for number in numbered.tolist()])
        if self._frequencies:
            shares = self._frequencies.of(vocabulary)[numbered]
            surface = counted(surface, shares, self._frequencies.of_pieces)
        surface = join(special_surface(around), surface)
        weights = np.zeros(len(surface.kinds), np.float32)
        weights[len(around) + len(used) :] = log_weight
        renumbered = np.split(numbers + len(around), np.cumsum([len(row.ids) for row in new])[:-1])
        old_ids, old_lengths = _padded([[*source.before, *row.ids, *source.after] for row in old])
        before, after = np.arange(len(source.before)), np.arange(len(source.before), len(around))
        new_ids, new_lengths = _padded([[*before, *row, *after] for row in renumbered])
        return Batch(
            old_ids,
            old_lengths,
            new_ids,
            new_lengths,
            _ends(texts, old, new, len(source.before)),
            surface,
            weights,
            sum(len(text.encode("utf-8", "replace")) for text in texts),
        )

    def _others(
        self, vocabulary: Vocabulary, used: np.ndarray[Any, Any], generator: np.random.Generator
    ) -> tuple[np.ndarray[Any, Any], float]:
        """Some ids that the batch does not use, and the logarithm of how many of those each stands for."""
        if not self._classes:
            return np.zeros(0, np.int64), 0.0
        rest = np.setdiff1d(np.arange(len(vocabulary.tokens)), [*used, vocabulary.unknown])
        chosen = generator.permutation(rest)[: self._classes]
        return chosen, float(np.log(max(len(rest), 1) / max(len(chosen), 1)))


def _shares_in(rows: Sequence[_Row], size: int) -> np.ndarray[Any, Any]:
    return log_shares(np.bincount(np.concatenate([row.ids for row in rows]), minlength=size))


def _padded(rows: list[list[Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows with zeros behind, int32, and their lengths."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.zeros((len(rows), lengths.max()), np.int32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return padded, lengths


def _ends(texts: list[str], old: list[_Row], new: list[_Row], before: int) -> np.ndarray[Any, Any]:
    """Where words end in both rows."""
    found = list[np.ndarray[Any, Any]]()
    for number, (text, first, second) in enumerate(zip(texts, old, new, strict=True)):
        words = np.array([word.end() for word in _WORD.finditer(text)], np.int64)
        places = np.stack([first.places(words), second.places(words)])
        places = places[:, (places >= 0).all(0)] + before
        found.append(np.concatenate([np.full((1, places.shape[1]), number), places]))
    return np.concatenate(found, axis=1)
