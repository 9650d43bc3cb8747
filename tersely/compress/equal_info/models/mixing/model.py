"""``MixingModel``: the next byte by logistic mixing of counts, in fixed point, for building codes.

Two runs over the texts: the first counts what follows contexts of 0 to 7 bytes, and words; the second learns how much to trust
which count. Then it is frozen, and a code is built by it. A match model, as archives have it, has nothing to find here: a window
shows too few bytes. All is integer arithmetic, so a model gives the same numbers on every machine.

Legend: ``C`` contexts, those of words behind the others, ``E`` pairs of a context and a byte.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from tersely.compress.equal_info.contexts import EMPTY
from tersely.compress.equal_info.models.count import count_most
from tersely.compress.equal_info.models.mixing.counted import Counted, Tables
from tersely.compress.equal_info.models.mixing.learn import learn
from tersely.compress.equal_info.models.mixing.opinions import (
    CLASSES,
    OPINIONS,
    ORDER,
    SETS,
    first_weights,
    size_classes,
)
from tersely.compress.equal_info.models.mixing.predict import distributions, known_parts
from tersely.compress.equal_info.models.mixing.sevens import with_sevens
from tersely.compress.equal_info.models.mixing.words import folded_bytes, only_words
from tersely.compress.equal_info.models.rows import hashed, suffix_rows
from tersely.compress.logistic import log_table, squash_table
from tersely.errors import TokenizeError
from tersely.tokenize.batch import one_buffer
from tersely.tokenize.protocol import Texts, config_fingerprint

MOST_CONTEXTS = 1 << 22
"""Contexts that a model keeps, and of seven bytes as many again, and of words; of more, the rarest are left out."""

MOST_PLACES = 1 << 22
"""Of the text, that weights are learned from."""


class MixingModel:
    """Distributions of the next byte from counts, and weights for them.

    Args:
        contexts: shape ``(C,)``, uint64: first the ``plain`` ones, growing, the empty one among them; then those of words.
        starts: shape ``(C + 1,)``, int64: the entries of each context.
        following: shape ``(E,)``, uint8, growing within a context.
        counts: shape ``(E,)``, uint32.
        weights: shape ``(W,)``, int32.
        plain: how many contexts are none of words.

    ``train`` makes one from text, ``load`` from a file.
    """

    def __init__(
        self, contexts: Any, starts: Any, following: Any, counts: Any, weights: Any, plain: int
    ) -> None:
        self._arrays = (contexts, starts, following, counts)
        self._weights, self._plain = weights, plain

    @classmethod
    def train(
        cls, texts: Texts, *, most_contexts: int = MOST_CONTEXTS, most_places: int = MOST_PLACES
    ) -> MixingModel:
        """Counts ``texts`` and learns from them; contexts seen only once are left out, and the rarest if there are too many.

        Args:
            texts: documents, less than 4 GiB.
            most_contexts: to keep, and of seven bytes, and of words.
            most_places: of the text, to learn weights from: a byte each, behind up to 7 others.

        Raises:
            TokenizeError: a text is no text, or there is too much.
        """
        documents = one_buffer(texts)
        text = documents.values
        if len(text) >= 1 << 32:
            raise TokenizeError(f"texts have {len(text):,} bytes: learn from a sample of less than 4 GiB")
        shorter, least = count_most(documents, ORDER - 1, most_contexts)
        plain, least_of_seven = with_sevens(shorter, documents, least, most_contexts)
        folded, least_of_word = count_most(documents, ORDER - 1, most_contexts, folded_bytes()[text])
        words = only_words(folded)
        model = cls(
            np.concatenate([plain.contexts, words.contexts]),
            np.concatenate([plain.offsets, plain.offsets[-1] + words.offsets[1:]]),
            np.concatenate([plain.following, words.following]),
            np.concatenate([plain.counts, words.counts]),
            first_weights(),
            len(plain.contexts),
        )
        if len(text):
            counted = model._counted
            totals = np.diff(np.concatenate([[0], np.cumsum(counted.counts, dtype=np.int64)])[counted.starts])
            parts = [len(shorter.contexts), len(plain.contexts) - len(shorter.contexts), len(words.contexts)]
            enough = totals > np.repeat([least, least_of_seven, least_of_word], parts)
            places = min(most_places, len(text))
            learn(text, documents.offsets, places, enough, counted, model._tables, model._weights)
        model._weights = np.clip(model._weights, -(1 << 31), (1 << 31) - 1).astype(np.int32)
        return model

    @property
    def context(self) -> int:
        """The longest context, in bytes."""
        return ORDER

    @property
    def fingerprint(self) -> str:
        """A hash of all counts and weights."""
        parts = (np.ascontiguousarray(array).tobytes() for array in (*self._arrays, self._weights))
        return config_fingerprint({"type": "mixing", "version": 1, "plain": self._plain}, *parts)

    def known(self, contexts: Any) -> Any:
        """Of each context the longest suffix that was counted, or its word if that is longer; shape ``(N,)``, uint64."""
        return known_parts(np.ascontiguousarray(contexts, np.uint64), self._counted)

    def cdf(self, contexts: Any) -> Any:
        """The distributions after contexts, shape ``(N, 257)``, int32, from 0 to 65,536."""
        contexts = np.ascontiguousarray(contexts, np.uint64)
        return distributions(
            contexts, np.argsort(contexts.byteswap()), self._counted, self._tables, self._weights
        )

    def save(self, file: str | Path) -> None:
        """Writes counts and weights as safetensors."""
        from safetensors.numpy import save

        about = json.dumps({"type": "mixing", "version": 1, "plain": self._plain})
        arrays: dict[str, Any] = dict(zip(_SAVED, (*self._arrays, self._weights), strict=True))
        Path(file).write_bytes(save(arrays, {"model": about}))

    @classmethod
    def load(cls, file: str | Path) -> MixingModel:
        """The model that ``save`` wrote.

        Raises:
            TokenizeError: the file is none.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(file), "np") as stored:
                about = json.loads((stored.metadata() or {}).get("model", "{}"))
                arrays = [stored.get_tensor(name) for name in _SAVED]
        except (OSError, ValueError, SafetensorError) as error:
            raise TokenizeError(f"{file} cannot be read as a mixing model: {error}") from error
        if about.get("type") != "mixing" or about.get("version") != 1:
            raise TokenizeError(f"{file} holds no mixing model of version 1: train it again")
        plain = about.get("plain")
        model = cls(*arrays, plain=plain if isinstance(plain, int) else 0)
        if not model._is_sound():
            raise TokenizeError(f"{file} is damaged: train the model again")
        return model

    def _is_sound(self) -> bool:
        """Whether no index leads out of the arrays; what the numbers say is not checked."""
        contexts, starts, following, counts = self._arrays
        types = [array.dtype for array in (*self._arrays, self._weights)]
        return (
            types == [np.uint64, np.int64, np.uint8, np.uint32, np.int32]
            and contexts.ndim == 1
            and 0 < self._plain <= len(contexts)
            and contexts[0] == EMPTY
            and contexts[self._plain - 1] < 2 << 8 * ORDER
            and bool((contexts[1 : self._plain] > contexts[: self._plain - 1]).all())
            and starts.shape == (len(contexts) + 1,)
            and starts[0] == 0
            and bool((np.diff(starts) >= 0).all())
            and starts[-1] == len(following) == len(counts)
            and self._weights.shape == (SETS * OPINIONS * CLASSES,)
        )

    @functools.cached_property
    def _counted(self) -> Counted:
        contexts = self._arrays[0]
        slots = hashed(contexts)
        return Counted(*self._arrays, slots, suffix_rows(contexts[: self._plain], slots), folded_bytes())

    @functools.cached_property
    def _tables(self) -> Tables:
        return Tables(log_table(), squash_table(), size_classes())


_SAVED = ("contexts", "starts", "following", "counts", "weights")
