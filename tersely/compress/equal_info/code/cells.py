"""Cell splitting: how a node's cells are shared out to the bytes that may follow.

A window begins with ``2**bits`` cells. A node with ``n`` cells keeps its first one for the window that ends there and
shares ``n - 1`` among the next bytes, in the order of the bytes, so that a cell stands for exactly one string:

    cells of "th"    | th | tha...  | the ............................. | thi....... | tho... | thr.. |
                       stop           these again: | the | the_......... | then.. | ...

1. A byte of ``p`` parts of ``2**16`` gets the whole part of ``(n - 1) * p / 2**16``.
2. What is left goes, one each, to the largest remainders; of equal ones to the smaller byte.
3. At the root each byte first gets one cell, and only the others are shared out so. Then any byte begins a window.
4. A byte gets no more cells than there are strings left within ``LONGEST_WINDOW``; what it cannot use goes to the most
   probable bytes that can, each filled up in turn, of equal ones the smaller first.

A byte without a cell ends the window. So every cell is the stop of one node, all ids have a string, and the ids of a
node's strings follow its own without a gap. This is version 1 of the format; another rule is another version.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.models.protocol import PRECISION

LONGEST_WINDOW = 64
"""Bytes of the longest window: without a bound a run of one byte could give thousands."""

FEWEST_BITS, MOST_BITS = 9, 24
"""With 8 bits there is no room for 256 bytes and a stop; tables of more than 24 do not fit into their entries."""

_FEW = 12  # so many largest remainders are looked for one by one, more by a sort


def room_for(left: int) -> int:
    """Strings of at most ``left`` further bytes, the empty one included; the most that matter are given."""
    return min(sum(256**length for length in range(left + 1)) if left < 4 else 1 << 62, 1 << 62)


@numba.njit(cache=True, nogil=True)
def split_all(sums: Any, which: Any, cells: Any, root: bool, room: int) -> Any:
    """The edges of nodes: the bytes that get a cell.

    Args:
        sums: shape ``(D, 257)``, int32: distributions.
        which: shape ``(N,)``, int64: that of each node.
        cells: shape ``(N,)``, int64: of each node, at least 2.
        root: whether windows begin at these nodes.
        room: the most cells that a byte can use.

    Returns:
        How many edges each node has, shape ``(N,)``, int64; of each edge the byte, uint8, and its cells, int64.
    """
    fans = np.empty(which.size, np.int64)
    space, count = 1 << 16, 0
    labels, shares = np.empty(space, np.uint8), np.empty(space, np.int64)
    shared = np.empty(256, np.int64)
    for node in range(which.size):
        split_cells(sums[which[node]], cells[node], root, room, shared)
        if count + 256 > space:
            labels = np.concatenate((labels, np.empty(space, np.uint8)))
            shares = np.concatenate((shares, np.empty(space, np.int64)))
            space *= 2
        before = count
        for byte in range(256):
            labels[count], shares[count] = byte, shared[byte]
            count += shared[byte] > 0
        fans[node] = count - before
    return fans, labels[:count].copy(), shares[:count].copy()


@numba.njit(cache=True, nogil=True)
def split_cells(sums: Any, cells: int, root: bool, room: int, shared: Any) -> None:
    """Shares out the cells of one node.

    Args:
        sums: shape ``(257,)``, the distribution as sums from 0 to ``2**16``.
        cells: of the node, at least 2; at least 257 at the root.
        root: whether a window begins here.
        room: the most cells that a byte can use.
        shared: shape ``(256,)``, int64; written: the cells of each byte, ``cells - 1`` together.
    """
    spare = cells - 1 - (256 if root else 0)
    ranks = np.empty(256, np.int64)  # larger remainders, then smaller bytes, rank higher
    left = spare
    for byte in range(256):
        part = spare * np.int64(sums[byte + 1] - sums[byte])
        shared[byte] = part >> PRECISION
        ranks[byte] = ((part & ((1 << PRECISION) - 1)) << 8) | (255 - byte)
        left -= shared[byte]
    if left > _FEW:
        lowest = np.sort(ranks)[256 - left]
        for byte in range(256):
            shared[byte] += ranks[byte] >= lowest
    else:
        for _ in range(left):
            best = ranks.argmax()
            shared[best] += 1
            ranks[best] = -1
    if root:
        for byte in range(256):
            shared[byte] += 1
    if cells - 1 > room:
        _make_fit(sums, room, shared)


@numba.njit(cache=True, nogil=True)
def _make_fit(sums: Any, room: int, shared: Any) -> None:
    """Takes cells that cannot be used to bytes that can use them."""
    surplus = 0
    for byte in range(256):
        if shared[byte] > room:
            surplus += shared[byte] - room
            shared[byte] = room
    while surplus > 0:
        best, most = -1, -1
        for byte in range(256):
            if shared[byte] < room and sums[byte + 1] - sums[byte] > most:
                best, most = byte, sums[byte + 1] - sums[byte]
        moved = min(room - shared[best], surplus)
        shared[best] += moved
        surplus -= moved
