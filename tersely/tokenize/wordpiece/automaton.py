"""A trie with failure links, which finds the longest pieces of a word in one pass, without ever going back.

Method: LinMaxMatch of Song, Salcianu, Song, Dopson and Zhou, "Fast WordPiece Tokenization" (EMNLP 2021, arXiv
2012.15524, section 3 and algorithms 1 and 2). Reading a word walks the trie. Where the walk cannot go on, the pieces
that cover what was read are known beforehand: each node keeps those that the search from the left would surely give
up by then (its pops), and the node for the bytes after them (its failure link).

    pieces a, abcd, ##b, ##c, ##cy        reading "abcz": a, b, c, no further.
                                          node abc: pops a ##b, then on from node ##c; which pops ##c, then no z: unknown

Pieces inside a word are written in the trie without their prefix, behind a byte 0xFF, which no UTF-8 has. As words and
pieces are both whole characters, so is every match, though the trie is over bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numba
import numpy as np

from tersely.tokenize.trie import BASE, LABEL, ROOT, build_trie
from tersely.tokenize.wordpiece.rules import WordPieceRules

NOWHERE = -1
"""The failure link of a node from which no pieces lead on: the word is unknown."""

_INSIDE = 0xFF


class Automaton(NamedTuple):
    """The trie and its links, by cell of the trie.

    Attributes:
        cells: shape ``(size,)``, int64, as in ``tersely.tokenize.trie``.
        links: shape ``(size, 3)``, int64: the cell of the failure link or ``NOWHERE``; how many pops there are; and
            the pop if it is one, else where they begin in ``pops``.
        pops: shape ``(total,)``, int64: ids.
        inside: the cell from which pieces inside a word are read.
        lengths: shape ``(vocab_size,)``, int64: bytes of each piece, its prefix included.
        prefix: bytes of the prefix.
    """

    cells: Any
    links: Any
    pops: Any
    inside: int
    lengths: Any
    prefix: int


def build_automaton(pieces: Mapping[str, int], rules: WordPieceRules, left_out: Collection[str]) -> Automaton:
    """The automaton of all pieces that a word can become; ``left_out`` are special tokens, which none becomes."""
    words: dict[bytes, int] = {}
    lengths = np.zeros(max(pieces.values()) + 1, np.int64)
    for piece, piece_id in pieces.items():
        lengths[piece_id] = len(piece.encode())
        if piece and piece not in left_out and len(piece) <= rules.max_word_characters + len(rules.prefix):
            words[piece.encode()] = piece_id
            if piece.startswith(rules.prefix) and piece != rules.prefix:
                words[bytes([_INSIDE]) + piece.removeprefix(rules.prefix).encode()] = piece_id
    trie = build_trie(list(words), list(words.values()))
    inside = (int(trie.cells[ROOT]) >> BASE) + _INSIDE
    if int(trie.cells[inside]) & LABEL != _INSIDE:
        inside = len(trie.cells) - 1  # a free cell: no piece can follow another
    depths = _depths(trie.nodes, trie.parents, inside)
    order = np.argsort(depths, kind="stable")
    links, pops = _link(*trie, order[depths[order] > 0], inside)
    return Automaton(trie.cells, links, pops, inside, lengths, len(rules.prefix.encode()))


def _depths(nodes: Any, parents: Any, inside: int) -> np.ndarray[Any, Any]:
    """How many bytes lead to each node, from the root or from that of the pieces inside a word."""
    depths = [0] * len(nodes)
    for node, (cell, parent) in enumerate(zip(nodes.tolist(), parents.tolist(), strict=True)):
        depths[node] = 0 if cell in (ROOT, inside) else depths[parent] + 1
    return np.array(depths)


@numba.njit(cache=True, nogil=True)
def _link(cells: Any, values: Any, nodes: Any, parents: Any, order: Any, inside: Any) -> Any:
    """Failure links and pops of all nodes in ``order``, which is that of their depth (algorithm 2 of the paper)."""
    links = np.zeros((cells.size, 3), np.int64)
    links[:, 0] = NOWHERE
    pops = np.empty(cells.size, np.int64)
    total = 0
    for node in order:
        cell = nodes[node]
        if values[cell] >= 0:
            links[cell, 0], links[cell, 1], links[cell, 2] = inside, 1, values[cell]
            continue
        byte = cells[cell] & LABEL
        state = nodes[parents[node]]
        start = total
        while (
            links[state, 0] != NOWHERE
        ):  # the pops of the parent, and of its links until one has such a child
            many = links[state, 1]
            while total + many > pops.size:
                pops = np.concatenate((pops, np.empty(pops.size, np.int64)))
            for i in range(many):
                pops[total + i] = links[state, 2] if many == 1 else pops[links[state, 2] + i]
            total += many
            state = links[state, 0]
            child = (cells[state] >> BASE) + byte
            if cells[child] & LABEL == byte:
                links[cell, 0], links[cell, 1] = child, total - start
                links[cell, 2] = start if total - start != 1 else pops[start]
                break
        if links[cell, 0] == NOWHERE or total - start == 1:
            total = start
    return links, pops[:total].copy()
