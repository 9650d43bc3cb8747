"""Vectors of tokens from the company they keep: positive pointwise mutual information, and its largest singular vectors.

    PPMI(t, c) = max(0, log P(t, c) / (P(t) P(c)))        P(c) from counts to the power 3/4

Levy, Goldberg and Dagan (2015), sections 2 and 3: what word2vec and fastText learn by gradients, in closed form. Tokens stand in
each other's company where at most ``WINDOW`` tokens lie from one to the other, in one passage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

WINDOW = 4
DIMENSIONS = 100
OFTEN = 10
"""Tokens that occur less often have no vector: so few neighbours say little."""

_SMOOTHING = 0.75
_PASSAGES = 4096  # that are counted at once


def token_vectors(tokenizer: Any, texts: list[str], size: int) -> np.ndarray[Any, Any]:
    """The vectors of the tokens of a vocabulary.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: passages.
        size: of its vocabulary, ``V``.

    Returns:
        float32 ``(V, D)``, each row of length 1, or all 0 for tokens that are seen less than ``OFTEN``; ``D`` is ``DIMENSIONS``,
        or less for few tokens.
    """
    pairs: Any = sparse.csr_array((size, size), dtype=np.float32)
    seen = np.zeros(size, np.int64)
    for start in range(0, len(texts), _PASSAGES):
        rows = tokenizer(texts[start : start + _PASSAGES], add_special_tokens=False)["input_ids"]
        seen += np.bincount(np.concatenate([np.zeros(0, np.int64), *map(_array, rows)]), minlength=size)
        pairs += _pairs(rows, size)
    kept = np.flatnonzero(seen >= OFTEN)
    found = np.zeros((size, min(DIMENSIONS, max(len(kept) - 1, 1))), np.float32)
    if len(kept) > 1:
        found[kept] = _singular(_ppmi((pairs + pairs.T).tocsr()[kept][:, kept]), found.shape[1])
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(lengths > 0, lengths, 1)


def _array(row: list[int]) -> np.ndarray[Any, Any]:
    return np.array(row, np.int64)


def _pairs(rows: list[list[int]], size: int) -> Any:
    """How often a token stands before another within ``WINDOW``, sparse ``(V, V)``."""
    apart = np.full(WINDOW, -1, np.int64)  # so that no pair reaches into the next row
    ids = np.concatenate([part for row in rows for part in (_array(row), apart)])
    firsts, seconds = list[Any](), list[Any]()
    for step in range(1, WINDOW + 1):
        first, second = ids[:-step], ids[step:]
        both = (first >= 0) & (second >= 0)
        firsts.append(first[both])
        seconds.append(second[both])
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    return sparse.coo_array((np.ones(len(first), np.float32), (first, second)), shape=(size, size)).tocsr()


def _ppmi(counts: Any) -> Any:
    """Positive pointwise mutual information of counts, sparse as they are."""
    table = counts.tocoo()
    total = table.data.sum(dtype=np.float64)
    rows, columns = (np.asarray(table.sum(axis), np.float64).ravel() for axis in (1, 0))
    smoothed = columns**_SMOOTHING / (columns**_SMOOTHING).sum()
    row, column = table.coords
    value = np.log(table.data / (rows[row] * smoothed[column])) if total else table.data
    kept = value > 0
    return sparse.csr_array((value[kept], (row[kept], column[kept])), shape=table.shape)


def _singular(table: Any, dimensions: int) -> np.ndarray[Any, Any]:
    """The largest left singular vectors, each times the root of its value."""
    start = np.random.default_rng(0).normal(size=table.shape[0])
    left, values, _ = linalg.svds(table.astype(np.float64), k=dimensions, v0=start)
    return (left * np.sqrt(values)).astype(np.float32)
