"""From a model to the tries of a code: one for each class of bytes before, with all equal subtrees shared.

Level by level from the roots of all classes at once: nodes of a level that have the same context and the same number of
cells have the same subtree, so they are one node.

    level 0    a root for each class         2**bits cells each
    level 1    (context, cells) of those     distinct ones only; a node of one cell is a leaf and needs no model
    ...

Then from the last level back: nodes whose bytes lead to the same nodes become one, in whatever level and class they
stand. What is left is a graph of a tenth of the nodes, or less, in which a node says nothing of where it stands: its id
is that of its root plus what the edges on the way add.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np

from tersely.compress.equal_info.code.cells import LONGEST_WINDOW, room_for, split_all
from tersely.compress.equal_info.contexts import pack, push
from tersely.compress.equal_info.models.protocol import ByteModel

_CHUNK = 1 << 13  # distributions at a time

LEAF = 0
"""The node of one cell, which no byte follows."""


class Tries(NamedTuple):
    """``N`` nodes, ``E`` edges, ``R`` roots; nodes come after all that they lead to, and node 0 is the leaf.

    Attributes:
        offsets: shape ``(N + 1,)``, int64: the edges of each node.
        labels: shape ``(E,)``, uint8: the byte of each edge, growing within a node.
        targets: shape ``(E,)``, int32: the node that it leads to.
        sizes: shape ``(N,)``, int64: the cells of each node.
        roots: shape ``(R,)``, int32.
    """

    offsets: Any
    labels: Any
    targets: Any
    sizes: Any
    roots: Any


class _Level(NamedTuple):
    """The nodes of one level, without leaves: where their edges begin, the bytes, and the nodes of the next level."""

    offsets: Any
    labels: Any
    targets: Any


def build_tries(
    model: ByteModel,
    bits: int,
    classes: Sequence[bytes] = (b"",),
    *,
    threads: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tries:
    """The tries of a code by cell splitting.

    Args:
        model: of the next byte.
        bits: of a window; each trie has ``2**bits`` nodes.
        classes: the bytes that stand before the windows of each trie.
        threads: how many ask the model at a time; the tries do not depend on it.
        on_progress: called with levels done and the most there can be.
    """
    kept = [before[max(0, len(before) - model.context) :] for before in classes]
    contexts = model.known(np.array([pack(before) for before in kept], np.uint64))
    roots, contexts, cells = _distinct(contexts, np.full(len(classes), 1 << bits, np.int64))
    levels: list[_Level] = []
    with ThreadPoolExecutor(threads) as pool:
        while len(contexts):
            level, contexts, cells = _expand(model, contexts, cells, len(levels), pool)
            numbers, contexts, cells = _distinct(contexts, cells)
            level.targets[level.targets >= 0] = numbers
            levels.append(level)
            if on_progress:
                on_progress(len(levels), LONGEST_WINDOW)
    return _share(levels, roots)


def _expand(
    model: ByteModel, contexts: Any, cells: Any, depth: int, pool: ThreadPoolExecutor
) -> tuple[_Level, Any, Any]:
    """The edges of a level; and of those that lead to no leaf, in their order, the context and the cells."""
    room = room_for(LONGEST_WINDOW - depth - 1)
    order = np.argsort(contexts, kind="stable")  # a context has nodes of several sizes, and one distribution
    starts = np.flatnonzero(np.concatenate([[True], np.diff(contexts[order]) != 0]))
    ends = np.append(starts[1:], len(contexts))

    def split(first: int) -> Any:
        some = slice(first, first + _CHUNK)
        sums = model.cdf(contexts[order[starts[some]]])
        which = np.repeat(np.arange(len(sums)), ends[some] - starts[some])
        return split_all(sums, which, cells[order[starts[first] : ends[some][-1]]], depth == 0, room)

    parts = list(pool.map(split, range(0, len(starts), _CHUNK)))
    fans = np.empty(len(contexts), np.int64)
    fans[order] = np.concatenate([part[0] for part in parts])
    offsets = np.concatenate([[0], np.cumsum(fans)])
    places = np.repeat(offsets[:-1][order], fans[order]) + _within(fans[order])
    labels, shares = np.empty(offsets[-1], np.uint8), np.empty(offsets[-1], np.int64)
    labels[places] = np.concatenate([part[1] for part in parts])
    shares[places] = np.concatenate([part[2] for part in parts])
    inner = np.flatnonzero(shares > 1)
    targets = np.where(shares > 1, 0, -1)
    pushed = push(np.repeat(contexts, fans)[inner], labels[inner], model.context)
    return _Level(offsets, labels, targets), model.known(pushed), shares[inner]


def _within(fans: Any) -> Any:
    """0, 1, ... for each of the edges of a node."""
    ends = np.cumsum(fans)
    return np.arange(ends[-1]) - np.repeat(ends - fans, fans)


@numba.njit(cache=True, nogil=True)
def _distinct(contexts: Any, cells: Any) -> Any:
    """For each pair its number among the distinct ones, which are returned in the order in which they come first."""
    bits = 4
    while (1 << bits) < 2 * contexts.size:
        bits += 1
    slots = np.full(1 << bits, -1, np.int64)
    numbers = np.empty(contexts.size, np.int64)
    firsts = np.empty(contexts.size, np.int64)
    count = 0
    for i in range(contexts.size):
        mixed = (contexts[i] * np.uint64(0x9E3779B97F4A7C15)) ^ (
            np.uint64(cells[i]) * np.uint64(0xC2B2AE3D27D4EB4F)
        )
        slot = np.int64((mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))
        while True:
            known = slots[slot]
            if known < 0:
                slots[slot] = numbers[i] = count
                firsts[count] = i
                count += 1
                break
            if contexts[firsts[known]] == contexts[i] and cells[firsts[known]] == cells[i]:
                numbers[i] = known
                break
            slot = (slot + 1) & (slots.size - 1)
    return numbers, contexts[firsts[:count]], cells[firsts[:count]]


def _share(levels: list[_Level], roots: Any) -> Tries:
    """The levels as one graph, each kind of node once."""
    nodes, edges = (
        1 + sum(len(level.offsets) - 1 for level in levels),
        sum(len(level.labels) for level in levels),
    )
    offsets, sizes = np.zeros(nodes + 1, np.int64), np.ones(nodes, np.int64)
    labels, targets = np.empty(edges, np.uint8), np.empty(edges, np.int32)
    slots = np.full(1 << max(4, (2 * nodes - 1).bit_length()), -1, np.int32)
    count, below = 1, np.zeros(0, np.int32)
    for level in reversed(levels):
        aims = np.full(len(level.targets), LEAF, np.int32)
        inner = level.targets >= 0
        aims[inner] = below[level.targets[inner]]
        below, count = _share_level(
            level.offsets, level.labels, aims, offsets, labels, targets, sizes, slots, count
        )
    last = offsets[count]
    return Tries(
        offsets[: count + 1].copy(),
        labels[:last].copy(),
        targets[:last].copy(),
        sizes[:count].copy(),
        below[roots],
    )


@numba.njit(cache=True, nogil=True)
def _share_level(
    starts: Any,
    bytes_: Any,
    aims: Any,
    offsets: Any,
    labels: Any,
    targets: Any,
    sizes: Any,
    slots: Any,
    count: int,
) -> Any:
    """Finds or makes the node of each of a level; returns these, and how many there are now."""
    found = np.empty(starts.size - 1, np.int32)
    mask = slots.size - 1
    for node in range(starts.size - 1):
        first, last = starts[node], starts[node + 1]
        mixed = np.uint64(last - first)
        for edge in range(first, last):
            mixed = (mixed ^ (np.uint64(aims[edge]) << np.uint64(8)) ^ np.uint64(bytes_[edge])) * np.uint64(
                0x9E3779B97F4A7C15
            )
            mixed ^= mixed >> np.uint64(29)
        slot = np.int64(mixed & np.uint64(mask))
        while True:
            known = slots[slot]
            if known < 0:
                end = offsets[count] + last - first
                labels[offsets[count] : end] = bytes_[first:last]
                targets[offsets[count] : end] = aims[first:last]
                offsets[count + 1] = end
                size = 1
                for edge in range(first, last):
                    size += sizes[aims[edge]]
                sizes[count] = size
                slots[slot] = found[node] = count
                count += 1
                break
            if _same(bytes_, aims, first, last, offsets[known], offsets[known + 1], labels, targets):
                found[node] = known
                break
            slot = (slot + 1) & mask
    return found, count


@numba.njit(cache=True, nogil=True)
def _same(
    bytes_: Any, aims: Any, first: int, last: int, start: int, end: int, labels: Any, targets: Any
) -> bool:
    if last - first != end - start:
        return False
    for i in range(last - first):
        if bytes_[first + i] != labels[start + i] or aims[first + i] != targets[start + i]:
            return False
    return True
