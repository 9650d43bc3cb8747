"""The paper's greedy code, to compare with (Lester et al. 2024, arXiv 2404.03626, section 3.3 and appendix D.5).

A window is a piece of text that arithmetic coding brings into at most ``bits`` bits: as long as some interval of a whole
number of steps of ``2**-bits`` lies within the interval of the text. Its id is the shortest binary fraction in there,
filled up with zeros. Several texts can have the same id, of which the longest is meant: the decoder takes the longest
text that is encoded as the id. As that is written it is not one to one, since the encoder goes by the text and not by the
id; ``GreedyCode`` shows how often (``tests/compress/test_paper_codes.py`` has a pair of texts with the same ids).

This is no tokenizer, and bytes that do not fit into one window have no id.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from tersely.compress.equal_info.contexts import EMPTY, push
from tersely.compress.equal_info.models.protocol import PRECISION, ByteModel

_FIXED = 46  # binary places of an interval
NONE = -1
"""Where there is no node or no id."""


class GreedyCode(NamedTuple):
    """All texts that fit into a window, ``N`` nodes of a trie, parents before children; node 0 is the empty text.

    Attributes:
        parents: shape ``(N,)``, int64.
        labels: shape ``(N,)``, uint8: the last byte.
        firsts: shape ``(N + 1,)``, int64: the children of a node are ``firsts[i]`` to ``firsts[i + 1] - 1``.
        codes: shape ``(N,)``, int64: the id.
    """

    parents: Any
    labels: Any
    firsts: Any
    codes: Any

    def children(self, node: int) -> range:
        """The nodes one byte further."""
        return range(int(self.firsts[node]), int(self.firsts[node + 1]))

    def string(self, node: int) -> bytes:
        """The text of a node."""
        text = bytearray()
        while node:
            text.append(int(self.labels[node]))
            node = int(self.parents[node])
        return bytes(text[::-1])


def greedy_code(model: ByteModel, bits: int) -> GreedyCode:
    """The code of a model whose windows begin without context."""
    contexts, lows, sizes = (np.array([start], np.uint64) for start in (EMPTY, 0, 1 << _FIXED))
    parents, labels, codes, fans = (
        [np.zeros(1, np.int64)],
        [np.zeros(1, np.uint8)],
        [np.zeros(1, np.int64)],
        [],
    )
    before = 0
    while len(contexts):
        contexts = model.known(contexts)
        above, bytes_, new_lows, new_sizes, new_codes = _fit(_sums(model, contexts), lows, sizes, bits)
        fans.append(np.bincount(above, minlength=len(contexts)))
        parents.append(above + before)
        before += len(contexts)
        labels.append(bytes_)
        codes.append(new_codes)
        contexts, lows, sizes = push(contexts[above], bytes_, model.context), new_lows, new_sizes
    firsts = np.concatenate([[1], 1 + np.cumsum(np.concatenate(fans))])
    return GreedyCode(np.concatenate(parents), np.concatenate(labels), firsts, np.concatenate(codes))


def _sums(model: ByteModel, contexts: Any) -> Any:
    """The distributions of all contexts, each asked for once."""
    distinct, which = np.unique(contexts, return_inverse=True)
    return model.cdf(distinct), which


@numba.njit(cache=True, nogil=True)
def _fit(given: Any, lows: Any, sizes: Any, bits: int) -> Any:
    """The texts one byte longer that fit: the node before, the byte, the interval and the id."""
    sums, which = given
    room, count = 1 << 12, 0
    above, codes = np.empty((2, room), np.int64)
    labels = np.empty(room, np.uint8)
    new_lows, new_sizes = np.empty((2, room), np.uint64)
    step = np.uint64(1) << np.uint64(_FIXED - bits)
    for node in range(lows.size):
        if count + 256 > room:
            above, codes = np.concatenate((above, above)), np.concatenate((codes, codes))
            labels = np.concatenate((labels, labels))
            new_lows, new_sizes = np.concatenate((new_lows, new_lows)), np.concatenate((new_sizes, new_sizes))
            room *= 2
        for byte in range(256):
            low = lows[node] + ((sizes[node] * np.uint64(sums[which[node], byte])) >> np.uint64(PRECISION))
            high = lows[node] + (
                (sizes[node] * np.uint64(sums[which[node], byte + 1])) >> np.uint64(PRECISION)
            )
            first, end = (low + step - np.uint64(1)) // step, high // step
            if end > first:
                above[count], labels[count], codes[count] = (
                    node,
                    byte,
                    _shortest(np.int64(first), np.int64(end), bits),
                )
                new_lows[count], new_sizes[count] = low, high - low
                count += 1
    return (
        above[:count].copy(),
        labels[:count].copy(),
        new_lows[:count].copy(),
        new_sizes[:count].copy(),
        codes[:count].copy(),
    )


@numba.njit(cache=True, nogil=True)
def _shortest(first: Any, end: Any, bits: int) -> int:
    """The shortest binary fraction whose interval lies within the steps ``first`` to ``end - 1``, as ``bits`` bits."""
    for shift in range(bits, -1, -1):
        start = ((first + (1 << shift) - 1) >> shift) << shift
        if start + (1 << shift) <= end:
            return start
    return NONE


@numba.njit(cache=True, nogil=True)
def child(firsts: Any, labels: Any, node: int, byte: int) -> int:
    """The node one byte further, or ``NONE``."""
    low, end = firsts[node], firsts[node + 1]
    while low < end:
        middle = (low + end) // 2
        if labels[middle] < byte:
            low = middle + 1
        else:
            end = middle
    return low if low < firsts[node + 1] and labels[low] == byte else NONE


@numba.njit(cache=True, nogil=True)
def longest(firsts: Any, labels: Any, text: Any, place: int) -> Any:
    """The node of the longest window that begins at ``place``, 0 if none does, and where it ends."""
    node = 0
    while place < text.size:
        further = child(firsts, labels, node, text[place])
        if further < 0:
            break
        node = further
        place += 1
    return node, place


@numba.njit(cache=True, nogil=True)
def encode(firsts: Any, labels: Any, text: Any) -> Any:
    """The nodes of the windows of a text, and how many bytes were in none; each window is as long as it can be."""
    nodes = np.empty(text.size, np.int64)
    count, left_out, place = 0, 0, 0
    while place < text.size:
        node, place = longest(firsts, labels, text, place)
        if node:
            nodes[count] = node
            count += 1
        else:
            left_out += 1
            place += 1
    return nodes[:count].copy(), left_out


def decode(code: GreedyCode, ids: Any) -> Any:
    """The node of each id: the longest text that is encoded as it, or ``NONE``.

    Args:
        code: of ``greedy_code``.
        ids: shape ``(T,)``, integers.
    """
    longest = np.full(int(code.codes.max()) + 1, NONE, np.int64)
    longest[code.codes[1:]] = np.arange(
        1, len(code.codes)
    )  # nodes come by length: the last is one of the longest
    return longest[ids]
