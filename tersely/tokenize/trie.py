"""A trie over bytes as one flat array: a step costs one read, and 65,000 words are laid out in a tenth of a second.

A double array (J. Aoe, "An efficient digital search algorithm by using a double-array structure", 1989), in the form
that keeps the label of the edge in place of the parent. Each node has a base, and its child by byte ``c`` lies in the
cell ``base + c``, which is that child if its label is ``c``; no two nodes share a base, so the label tells it.

    a cell:   base of the node << 10  |  1 << 9 if a word ends here  |  label, or 256 where the cell is free

The nodes with most children are laid first, each into the first gap that fits, and those with one child fill the
holes. Leaves have the base of 256 cells that stay free, so a step never has to be checked against the bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

LABEL = 0x1FF
"""The bits of a cell that hold its label."""
FINAL = 0x200
"""The bit of a cell that says that a word ends there."""
BASE = 10
"""How far a cell is shifted right to give the base of its node."""
ROOT = 0
"""The cell of the root, whose label no byte equals."""

_FREE = 256
_PATIENCE = 64  # gaps tried in vain before the search for the next nodes of that size begins further on


class Trie(NamedTuple):
    """The cells, and what the words stand for.

    Attributes:
        cells: shape ``(size,)``, int64.
        values: shape ``(size,)``, int64: the value of the word that ends in a cell, else -1.
        nodes: shape ``(count,)``, int64: the cell of each node, parents before their children.
        parents: shape ``(count,)``, int64: for each of ``nodes`` the place of its parent in it, -1 for the root.
    """

    cells: Any
    values: Any
    nodes: Any
    parents: Any


def build_trie(words: Sequence[bytes], values: Sequence[int]) -> Trie:
    """The trie of ``words``, which are distinct and not empty; ``values`` are at least 0, one for each."""
    order = sorted(range(len(words)), key=words.__getitem__)
    text = np.frombuffer(b"".join(words[i] for i in order), np.uint8)
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum([len(words[i]) for i in order], out=offsets[1:])
    parents, labels, finals = _grow(text, offsets, np.array(values, np.int64)[order])
    children = np.argsort(parents[1:], kind="stable") + 1
    fans = np.bincount(parents[1:], minlength=len(parents))
    starts = np.concatenate([[0], np.cumsum(fans)])
    largest_first = np.argsort(-fans, kind="stable")
    bases, size = lay_out(largest_first[: np.count_nonzero(fans)], children, starts, labels)
    nodes = bases[parents] + labels
    nodes[0] = ROOT
    cells = np.full(size + 256, _FREE, np.int64)
    where = np.where(fans > 0, bases, size)
    cells[nodes] = where << BASE | np.where(finals >= 0, FINAL, 0) | labels
    by_cell = np.full(len(cells), -1, np.int64)
    by_cell[nodes] = finals
    return Trie(cells, by_cell, nodes, parents)


def longest_match(trie: Trie, text: bytes, start: int) -> tuple[int, int]:
    """The value of the longest word that ``text`` has at ``start``, and where it ends; ``(-1, start)`` if none."""
    found, end, cell = -1, start, ROOT
    for place in range(start, len(text)):
        cell = (int(trie.cells[cell]) >> BASE) + text[place]
        if int(trie.cells[cell]) & LABEL != text[place]:
            break
        if trie.values[cell] >= 0:
            found, end = int(trie.values[cell]), place + 1
    return found, end


@numba.njit(cache=True, nogil=True)
def _grow(text: Any, offsets: Any, values: Any) -> Any:
    """The nodes of sorted words, parents first: their parents, labels (the root's is 256), and values or -1."""
    parents = np.empty(text.size + 1, np.int64)
    labels = np.empty(text.size + 1, np.int64)
    finals = np.full(text.size + 1, -1, np.int64)
    path = np.zeros(text.size + 1, np.int64)  # the nodes of the word before
    parents[0] = -1
    labels[0] = _FREE
    count = 1
    before = 0
    for word in range(offsets.size - 1):
        start = offsets[word]
        length = offsets[word + 1] - start
        shared = 0
        while shared < min(length, start - before) and text[start + shared] == text[before + shared]:
            shared += 1
        for depth in range(shared, length):
            parents[count] = path[depth]
            labels[count] = text[start + depth]
            path[depth + 1] = count
            count += 1
        finals[path[length]] = values[word]
        before = start
    return parents[:count].copy(), labels[:count].copy(), finals[:count].copy()


@numba.njit(cache=True, nogil=True)
def lay_out(order: Any, children: Any, starts: Any, labels: Any) -> Any:
    """A base for each node of ``order`` such that no two nodes have a cell, or a base, in common; and the size."""
    bases = np.zeros(starts.size - 1, np.int64)
    taken = np.zeros(2 * labels.size + 1024, np.bool_)
    used = np.zeros(taken.size, np.bool_)  # as a base
    head = 1
    fan = 0
    size = 1
    for node in order:
        edges = labels[children[starts[node] : starts[node + 1]]]
        if edges.size != fan:
            fan = edges.size
            head = 1
        while taken[head]:
            head += 1
        place = max(head, edges[0] + 1)
        tries = 0
        while True:
            if place + 512 > taken.size:
                taken = np.concatenate((taken, np.zeros(taken.size, np.bool_)))
                used = np.concatenate((used, np.zeros(used.size, np.bool_)))
            if _fits(place - edges[0], edges, taken, used):
                break
            tries += 1
            place += 1
        if tries > _PATIENCE:
            head = place
        base = place - edges[0]
        bases[node] = base
        used[base] = True
        for edge in edges:
            taken[base + edge] = True
        size = max(size, base + edges[-1] + 1)
    return bases, size


@numba.njit(cache=True, nogil=True)
def _fits(base: Any, edges: Any, taken: Any, used: Any) -> Any:
    if used[base]:
        return False
    for edge in edges:  # noqa: SIM110
        if taken[base + edge]:
            return False
    return True
