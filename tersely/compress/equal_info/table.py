"""The compiled code: its tries as one flat array, and which trie follows which bytes.

A double array (J. Aoe 1989), as in ``tersely/tokenize/trie.py``, for a graph of shared nodes. A node is a base, and its
child by the byte ``c`` lies in the cell ``base + c``, if the label there is ``c``:

    a cell, uint64:   base of the child << 33  |  what its id is more than the parent's << 9  |  label, or 256 where free

Shared nodes do not know their ids, so a walk adds them up, from 0 at the root. Leaves have the base of 256 free cells at
the end, so no step has to be checked against the bounds.

A class is the bytes before a window that its trie takes into account: none (class 0: a document begins, or the bytes
are too rare), the last one, or the last two. A window is of the longest class that the text before it ends with. The first
byte of a class of two is a class as well, so of a window that is one byte long the class of the one before it tells enough
to know the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from tersely.compress.equal_info.build import LEAF, Tries
from tersely.tokenize.trie import lay_out

LABEL = 0x1FF
"""The bits of a cell that hold its label."""
STEP = 9
"""How far a cell is shifted right to give what it adds to the id, of which there are ``STEP_BITS``."""
STEP_BITS = 24
BASE = 33
"""How far a cell is shifted right to give the base of its node."""
FREE = 256
"""The label of a cell that is not used."""
NO_BYTE = 256
"""In the place of the byte before, where there is none."""


class Table(NamedTuple):
    """What a code is made of; ``C`` classes.

    Attributes:
        cells: shape ``(size,)``, uint64.
        roots: shape ``(C,)``, int64: the base of the root of each class.
        classes: the bytes of each class, up to two; the first has none.
    """

    cells: Any
    roots: Any
    classes: tuple[bytes, ...]


def compile_tries(tries: Tries, classes: Sequence[bytes]) -> Table:
    """The table of ``tries``, which has a root for each of ``classes``."""
    fans = np.diff(tries.offsets)
    order = np.argsort(-fans, kind="stable")[: np.count_nonzero(fans)]
    bases, size = lay_out(order, np.arange(len(tries.labels)), tries.offsets, tries.labels.astype(np.int64))
    bases[LEAF] = size
    cells = np.full(size + 256, FREE, np.uint64)
    places = np.repeat(bases, fans) + tries.labels
    steps = _steps(tries.offsets, tries.targets, tries.sizes)
    held = bases[tries.targets].astype(np.uint64) << np.uint64(BASE)
    cells[places] = held | steps << np.uint64(STEP) | tries.labels.astype(np.uint64)
    return Table(cells, bases[tries.roots], tuple(classes))


@numba.njit(cache=True, nogil=True)
def _steps(offsets: Any, targets: Any, sizes: Any) -> Any:
    """What each edge adds to the id: 1 for the stop cell, and the cells of the edges before."""
    steps = np.empty(targets.size, np.uint64)
    for node in range(offsets.size - 1):
        step = 1
        for edge in range(offsets[node], offsets[node + 1]):
            steps[edge] = step
            step += sizes[targets[edge]]
    return steps


def following_classes(classes: Sequence[bytes]) -> Any:
    """The class behind two bytes; shape ``(257, 256)``, uint16, the first ``NO_BYTE`` if it is not known."""
    numbers = {text: number for number, text in enumerate(classes)}
    single = np.array([numbers.get(bytes([byte]), 0) for byte in range(256)], np.uint16)
    found = np.tile(single, (257, 1))
    for text, number in numbers.items():
        if len(text) == 2:
            found[text[0], text[1]] = number
    return found


def last_bytes(classes: Sequence[bytes]) -> Any:
    """The last byte of each class, or ``NO_BYTE``; shape ``(C,)``, int64."""
    return np.array([text[-1] if text else NO_BYTE for text in classes], np.int64)
