"""Who sees whom in a packed batch: two intervals for each token, made once on the device and shared by all layers.

Query ``q`` sees key ``k`` if ``key_start[q] <= k < key_stop[q]``, and the same pairs read from the key's side are
``query_start[k] <= q < query_stop[k]``. Causal and full documents, sliding windows and cross-attention are all
intervals from both sides. A prefix tree in depth-first order is one from the key's side only (a node is seen by
its subtree); from the query's side the interval then covers what it sees, and both conditions must hold.

    two documents of 3 and 2 tokens, causal        a prompt of 2 tokens, two answers of 1 and 2
    key_start    0 0 0 3 3                         key_start    0 0 0 0 0
    key_stop     1 2 3 4 5                         key_stop     1 2 3 4 5
    query_start  0 1 2 3 4                         query_start  0 1 2 3 4
    query_stop   3 3 3 5 5                         query_stop   5 5 3 5 5

The first three vectors never decrease, nor does ``query_stop`` without a tree: so a tile of queries needs the keys
from ``key_start`` of its first row to ``key_stop`` of its last, whatever the documents are. Rows past the last
document see nothing. Nothing here reads a value back from the device, and all shapes follow from the numbers of
tokens and documents: no ``max_seqlen``, no recompilation when lengths change.

Legend: ``Tq``, ``Tk`` packed tokens of queries and keys, ``N`` documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tersely.errors import KernelError
from tersely.kernels.attention.intervals import (
    document_boundaries,
    numbered_boundaries,
    padded_boundaries,
    tree_boundaries,
)


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The mask of a packed batch; made by one of the ``from_`` functions.

    Attributes:
        key_start, key_stop: ``(Tq,)``, int32.
        query_start, query_stop: ``(Tk,)``, int32.
        query_tiles, key_tiles: ``(ceil(Tq / 128),)`` and ``(ceil(Tk / 128),)``, int32: the order in which tiles are
            best worked on, long documents first and in each most work first.
        tree: whether the key's side narrows what the query's side allows.
        documents: their number where the shapes tell it, else 0: a hint for choosing tiles.
        sides: keys to the left and to the right of its own that a query sees in its document, -1 for all (causal is
            0 to the right); a tree's are (-1, 0).
    """

    key_start: Tensor
    key_stop: Tensor
    query_start: Tensor
    query_stop: Tensor
    query_tiles: Tensor
    key_tiles: Tensor
    tree: bool = False
    documents: int = 0
    sides: tuple[int, int] = (-1, -1)

    @staticmethod
    def from_cu_seqlens(
        cu_seqlens_q: Tensor,
        tokens_q: int,
        cu_seqlens_k: Tensor | None = None,
        tokens_k: int | None = None,
        *,
        causal: bool = False,
        window: tuple[int, int] = (-1, -1),
    ) -> Boundaries:
        """Documents given by their boundaries.

        Args:
            cu_seqlens_q: ``(N + 1,)``, int32 or int64, from 0, non-decreasing, at most ``tokens_q`` at the end.
            tokens_q: ``Tq``; tokens past ``cu_seqlens_q[-1]`` are slack.
            cu_seqlens_k: the same for the keys, if they are other tokens than the queries.
            tokens_k: ``Tk``; needed with ``cu_seqlens_k``.
            causal: no key after the query. Where the lengths differ, the last query stands at the last key
                ("bottom right", as in flash attention).
            window: keys to the left and to the right of the query that it sees besides its own; -1 for all.

        Raises:
            KernelError: shapes, dtypes or devices do not fit. Values are not looked at.
        """
        if (cu_seqlens_k is None) != (tokens_k is None):
            raise KernelError("cu_seqlens_k and tokens_k are given together, or neither")
        if cu_seqlens_k is None or tokens_k is None:
            cu_seqlens_k, tokens_k = cu_seqlens_q, tokens_q
        _check(cu_seqlens_q, "cu_seqlens_q", tokens_q)
        _check(cu_seqlens_k, "cu_seqlens_k", tokens_k)
        if cu_seqlens_k.shape != cu_seqlens_q.shape or cu_seqlens_k.device != cu_seqlens_q.device:
            raise KernelError(
                f"cu_seqlens_q {tuple(cu_seqlens_q.shape)} on {cu_seqlens_q.device} and cu_seqlens_k "
                f"{tuple(cu_seqlens_k.shape)} on {cu_seqlens_k.device} must name the same documents on one device"
            )
        sides = _sides(window, causal)
        made = document_boundaries(cu_seqlens_q, tokens_q, cu_seqlens_k, tokens_k, *sides)
        return Boundaries(*made, documents=cu_seqlens_q.shape[0] - 1, sides=sides)

    @staticmethod
    def from_position_ids(
        position_ids: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = True,
        window: tuple[int, int] = (-1, -1),
    ) -> Boundaries:
        """Documents given by positions that start again: a token not one further than the one before begins one.

        Args:
            position_ids: ``(T,)``, or ``(B, L)`` for ``B`` rows of a batch one after another; integers on the device.
            mask: of the same shape, false (or 0) for padding, which sees nothing and is seen by none.
            causal: as in ``from_cu_seqlens``.
            window: as in ``from_cu_seqlens``.
        """
        positions = torch.atleast_2d(position_ids)
        begins = torch.ones_like(positions, dtype=torch.bool)
        begins[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
        documents = begins.cumsum(1)
        if mask is not None:
            documents = documents * mask.reshape(documents.shape).bool()
        return Boundaries.from_document_ids(documents, causal=causal, window=window)

    @staticmethod
    def from_document_ids(
        document_ids: Tensor, *, causal: bool = True, window: tuple[int, int] = (-1, -1)
    ) -> Boundaries:
        """Documents given by a number for each token; 0 is padding.

        Args:
            document_ids: ``(T,)``, or ``(B, L)``: no document goes from one row into the next. Tokens of a document
                stand together.
            causal: as in ``from_cu_seqlens``.
            window: as in ``from_cu_seqlens``.
        """
        sides = _sides(window, causal)
        return Boundaries(*numbered_boundaries(torch.atleast_2d(document_ids), *sides), sides=sides)

    @staticmethod
    def from_padded(
        mask: Tensor, queries: int, keys: int, *, causal: bool, window: tuple[int, int] = (-1, -1)
    ) -> Boundaries:
        """Rows of a padded batch, one after another, whose keys may reach further back than the queries (a cache).

        Args:
            mask: ``(B, n)``, true for real tokens, which stand together in each row; the last of the ``n`` is where the
                last query stands.
            queries: queries of each row.
            keys: keys of each row, at least ``n``, those past ``n`` unused.
            causal: as in ``from_cu_seqlens``; where it is false, all queries are taken for real tokens.
            window: as in ``from_cu_seqlens``.
        """
        sides = _sides(window, causal)
        return Boundaries(*padded_boundaries(mask.bool(), queries, keys, *sides), sides=sides)

    @staticmethod
    def from_tree(subtree_end: Tensor) -> Boundaries:
        """Prefix trees in depth-first order: key ``k`` is seen by the queries ``k <= q < subtree_end[k]``.

        A prompt with its answers is a tree of two floors; separate trees stand one after another.

        Args:
            subtree_end: ``(T,)``, integers on the device; the token after the last one below token ``k``. Slack
                tokens have their own index, and see nothing.
        """
        if subtree_end.dim() != 1 or subtree_end.is_floating_point():
            raise KernelError("subtree_end must be a vector of integers, one for each token")
        return Boundaries(*tree_boundaries(subtree_end), tree=True, sides=(-1, 0))

    def visible(self) -> Tensor:
        """The mask in full, ``(Tq, Tk)``, bool: for tests, and for attention that knows only masks."""
        query = torch.arange(self.key_start.shape[0], device=self.key_start.device)[:, None]
        key = torch.arange(self.query_start.shape[0], device=self.key_start.device)[None]
        from_query = (key >= self.key_start[:, None]) & (key < self.key_stop[:, None])
        from_key = (query >= self.query_start) & (query < self.query_stop)
        return from_query & from_key


def _sides(window: tuple[int, int], causal: bool) -> tuple[int, int]:
    return window[0], 0 if causal else window[1]


def _check(cu_seqlens: Tensor, name: str, tokens: int) -> None:
    if cu_seqlens.dim() != 1 or cu_seqlens.shape[0] < 1 or cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise KernelError(
            f"{name} must be a vector of int32 or int64 that begins with 0, but it has shape "
            f"{tuple(cu_seqlens.shape)} and dtype {cu_seqlens.dtype}"
        )
    if tokens >= 2**31:
        raise KernelError(f"{tokens} tokens are more than fit an int32: split the batch")
