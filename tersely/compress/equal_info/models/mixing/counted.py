"""What was counted, as the loops of the mixing model take it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Counted(NamedTuple):
    """``C`` contexts, ``E`` pairs of a context and a byte.

    Attributes:
        contexts: shape ``(C,)``, uint64: first the plain ones, growing, the empty one among them; then those of words.
        starts: shape ``(C + 1,)``, int64: the entries of each context.
        following: shape ``(E,)``, uint8, growing within a context.
        counts: shape ``(E,)``, uint32.
        slots: ``hashed(contexts)``.
        suffixes: shape ``(plain,)``, int64: ``suffix_rows`` of the plain ones.
        folded: ``folded_bytes()``.
    """

    contexts: Any
    starts: Any
    following: Any
    counts: Any
    slots: Any
    suffixes: Any
    folded: Any


class Tables(NamedTuple):
    """Logarithms, their inverse, and classes of counts.

    Attributes:
        logs: ``logistic.log_table()``.
        squash: ``logistic.squash_table()``.
        sizes: ``size_classes()``.
    """

    logs: Any
    squash: Any
    sizes: Any
