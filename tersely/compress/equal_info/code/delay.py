"""The paper's "Delay" variant of its greedy code, which is one to one (arXiv 2404.03626, appendix A.5).

Of all texts with the same id the shortest is meant, so a window ends where the bytes after it would add nothing but zeros:
they are left to the next window. That costs length, and needs no look ahead.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tersely.compress.equal_info.code.greedy import NONE, GreedyCode, longest


@numba.njit(cache=True, nogil=True)
def encode(firsts: Any, labels: Any, parents: Any, shortest: Any, text: Any) -> Any:
    """The nodes of the windows of a text, and how many bytes were in none; ``shortest`` is of ``shortest_nodes``."""
    nodes = np.empty(text.size, np.int64)
    count, left_out, place = 0, 0, 0
    while place < text.size:
        node, place = longest(firsts, labels, text, place)
        if not node:
            left_out += 1
            place += 1
            continue
        while node != shortest[node]:
            node = parents[node]
            place -= 1
        nodes[count] = node
        count += 1
    return nodes[:count].copy(), left_out


def decode(code: GreedyCode, ids: Any) -> Any:
    """The node of each id: the shortest text that is encoded as it, or ``NONE``."""
    shortest = np.full(int(code.codes.max()) + 1, NONE, np.int64)
    shortest[code.codes[:0:-1]] = np.arange(len(code.codes) - 1, 0, -1)
    return shortest[ids]


def shortest_nodes(code: GreedyCode) -> Any:
    """For each node the shortest text with its id, which begins its own; shape ``(N,)``, int64."""
    return decode(code, code.codes)
