"""The vectors of ``Boundaries``, computed on the device, each way as one operator of torch.

As operators they stay whole under ``torch.compile``, which merges the equal calls of several layers where it makes a
backward, too (not in a forward alone); nothing reads a value back from the device.

All return ``key_start``, ``key_stop`` ``(Tq,)``, ``query_start``, ``query_stop`` ``(Tk,)``, ``query_tiles`` and
``key_tiles`` ``(ceil(T / 128),)``, int32, as ``Boundaries`` says. ``left`` and ``right`` are the keys that a query sees
to either side of its own, -1 for all: causal is ``right`` 0.

Legend: ``Tq``, ``Tk`` packed tokens, ``N`` documents, ``B`` rows of a batch, ``L`` queries of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tersely.kernels.operator import operator

TILE = 128
"""Tokens of the tiles that ``query_tiles`` and ``key_tiles`` put in order."""

Vectors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operator("document_boundaries")
def document_boundaries(
    cu_seqlens_q: Tensor, tokens_q: int, cu_seqlens_k: Tensor, tokens_k: int, left: int, right: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of documents ``cu_seqlens`` ``(N + 1,)``; the last query of each stands at its last key."""
    q, k = cu_seqlens_q.to(torch.int32), cu_seqlens_k.to(torch.int32)
    shift = (k[1:] - q[1:]) if left >= 0 or right >= 0 else None  # of a query's index to its key's
    key_start, key_stop, query_tiles = _intervals(q, k, tokens_q, shift, left, right)
    back = None if shift is None else -shift
    query_start, query_stop, key_tiles = _intervals(k, q, tokens_k, back, right, left)
    return key_start, key_stop, query_start, query_stop, query_tiles, key_tiles


@document_boundaries.register_fake
def _(
    cu_seqlens_q: Tensor, tokens_q: int, cu_seqlens_k: Tensor, tokens_k: int, left: int, right: int
) -> Vectors:
    return _empty(cu_seqlens_q, tokens_q, tokens_k)


@operator("numbered_boundaries")
def numbered_boundaries(
    document_ids: Tensor, left: int, right: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of documents with numbers, ``(B, L)``, rows one after another; 0 sees nothing."""
    tokens = document_ids.numel()
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = (document_ids[:, 1:] != document_ids[:, :-1]) | (document_ids[:, 1:] == 0)
    # As many documents as there are tokens, the unused ones empty at the end: a shape that is known.
    index = torch.arange(tokens, dtype=torch.int32, device=document_ids.device)
    cu_seqlens = torch.where(begins.reshape(-1), index, tokens).sort().values
    cu_seqlens = torch.nn.functional.pad(cu_seqlens, (0, 1), value=tokens)
    made = document_boundaries(cu_seqlens, tokens, cu_seqlens, tokens, left, right)
    blind = document_ids.reshape(-1) == 0
    key_start, key_stop, query_start, query_stop = (torch.where(blind, index, x) for x in made[:4])
    return key_start, key_stop, query_start, query_stop, *made[4:]


@numbered_boundaries.register_fake
def _(document_ids: Tensor, left: int, right: int) -> Vectors:
    return _empty(document_ids, document_ids.numel(), document_ids.numel())


@operator("padded_boundaries")
def padded_boundaries(
    mask: Tensor, queries: int, keys: int, left: int, right: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of rows ``mask`` ``(B, n)`` of a padded batch, of which each has ``queries`` queries and ``keys`` keys."""
    batch, seen = mask.shape
    place = torch.arange(seen, device=mask.device)
    nothing = place.new_zeros(batch, 1)
    first = torch.where(mask, place, seen).amin(1, keepdim=True) if seen else nothing
    end = torch.where(mask, place + 1, 0).amax(1, keepdim=True) if seen else nothing
    own = torch.arange(seen - queries, seen, device=mask.device)[None]
    start, stop = first.expand(batch, queries), end.expand(batch, queries)
    if left >= 0:
        start = torch.maximum(start, own - left)
    if right >= 0:
        stop = torch.minimum(stop, own + (right + 1))
    start = torch.minimum(start, end)
    stop = torch.maximum(start, stop)
    row = torch.arange(batch, device=mask.device)[:, None] * keys
    key_start, key_stop = ((x + row).reshape(-1).to(torch.int32) for x in (start, stop))
    key = torch.arange(batch * keys, dtype=torch.int32, device=mask.device)
    # Neither end of the queries' intervals goes back, so the first query past each key is found by bisection.
    query_stop = torch.searchsorted(key_start, key, right=True, out_int32=True)
    query_start = torch.minimum(torch.searchsorted(key_stop, key, right=True, out_int32=True), query_stop)
    length = (end - first).clamp(min=0)
    rows = torch.arange(batch, device=mask.device)[:, None]
    query_tiles, key_tiles = (
        _tile_order(*begin_stop, *(x.expand(batch, tokens).reshape(-1) for x in (length, rows * tokens)))
        for begin_stop, tokens in (((key_start, key_stop), queries), ((query_start, query_stop), keys))
    )
    return key_start, key_stop, query_start, query_stop, query_tiles, key_tiles


@padded_boundaries.register_fake
def _(mask: Tensor, queries: int, keys: int, left: int, right: int) -> Vectors:
    return _empty(mask, mask.shape[0] * queries, mask.shape[0] * keys)


@operator("tree_boundaries")
def tree_boundaries(subtree_end: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of prefix trees: the queries' intervals reach from the earliest ancestor to the query itself."""
    tokens = subtree_end.shape[0]
    index = torch.arange(tokens, dtype=torch.int32, device=subtree_end.device)
    end = subtree_end.to(torch.int32, copy=True)
    open_until = end.cummax(0).values if tokens else end
    start = torch.searchsorted(open_until, index, right=True, out_int32=True)
    start = torch.minimum(start, index)
    stop = torch.where(end > index, index + 1, start)
    query_tiles = _tile_order(start, stop, stop - start, start)
    return start, stop, index, end, query_tiles, _tile_order(index, open_until, open_until - start, start)


@tree_boundaries.register_fake
def _(subtree_end: Tensor) -> Vectors:
    return _empty(subtree_end, subtree_end.shape[0], subtree_end.shape[0])


def _intervals(
    own: Tensor, other: Tensor, tokens: int, shift: Tensor | None, left: int, right: int
) -> tuple[Tensor, Tensor, Tensor]:
    """For each token the interval of tokens on the other side, and the order of the tiles of these tokens."""
    index = torch.arange(tokens, dtype=torch.int32, device=own.device)
    document = torch.searchsorted(own[1:].contiguous(), index, right=True, out_int32=True)
    # Slack tokens belong to one more document, which is empty on the other side.
    first, last = other, torch.cat([other[1:], other[-1:]])
    start, stop = first[document], last[document]
    length = stop - start
    if shift is not None:
        place = index + torch.nn.functional.pad(shift, (0, 1))[document]
        low = torch.maximum(place - left, start) if left >= 0 else start
        high = torch.minimum(place + (right + 1), stop) if right >= 0 else stop
        start = torch.minimum(low, stop)
        stop = torch.maximum(high, start)
    return start, stop, _tile_order(start, stop, length, own[document])


_LONG = 1024
"""Documents of fewer tokens are done in the order in which they lie."""


def _tile_order(start: Tensor, stop: Tensor, length: Tensor, begin: Tensor) -> Tensor:
    """Tiles of long documents first, document by document, and in each those with most work first.

    Work of a document reads its keys and queries again and again, so its tiles stand together, and what they read stays
    in the cache; short documents lie in memory next to those they share tiles with. All in one sort of 64-bit keys:
    21 bits of length, 24 of where the document begins, 18 of work.

    The vectors are ``(T,)``: each token's interval, and the length and beginning of its document.
    """
    tokens = start.shape[0]
    first = torch.arange(0, tokens, TILE, device=start.device)
    last = (first + (TILE - 1)).clamp(max=max(tokens - 1, 0))
    long_first = 2**21 - 1 - length[first].long() // _LONG
    work_first = 2**18 - 1 - ((stop[last] - start[first]).long() // TILE).clamp(0, 2**18 - 1)
    key = (long_first << 42) | (begin[first].long() // TILE << 18) | work_first
    return torch.argsort(key, stable=True).to(torch.int32)


def _empty(like: Tensor, tokens_q: int, tokens_k: int) -> Vectors:
    """Shapes of the vectors, for tracing."""
    sizes = (tokens_q, tokens_q, tokens_k, tokens_k, -(-tokens_q // TILE), -(-tokens_k // TILE))
    a, b, c, d, e, f = (like.new_empty(size, dtype=torch.int32) for size in sizes)
    return a, b, c, d, e, f
