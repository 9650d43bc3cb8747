"""The mixing model once more, slow and plain: what the compiled loops are tested against.

Counters of bytes in dictionaries, one sum for each count that is asked for, Python's own integers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from tersely.compress.equal_info.models.parts import sum_up
from tersely.compress.logistic import EDGE, log_table, squash_table

_SQUASH = [int(p) for p in squash_table()]
_LOGS = [int(x) for x in log_table()]
_MASK = (1 << 64) - 1


class PlainMixing:
    """Learns from documents; contexts seen once do not count."""

    def __init__(self, documents: Sequence[bytes]) -> None:
        self.contexts: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        self.words: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        self.weights: dict[tuple[int, ...], int] = {}
        for text in documents:
            for i, byte in enumerate(text):
                for length in range(min(i, 7) + 1):
                    self.contexts[text[i - length : i]][byte] += 1
                if word := _word(text[max(0, i - 6) : i]):
                    self.words[word][byte] += 1
        places = [(text, i) for text in documents for i in range(len(text))]
        state = 1
        for drawn in range(len(places)):
            state = (state * 6364136223846793005 + 1442695040888963407) & _MASK
            text, i = places[(state >> 32) * len(places) >> 32]
            state = (state * 6364136223846793005 + 1442695040888963407) & _MASK
            shown = (state >> 32) * 8 >> 32
            self._learn(text[max(0, i - shown) : i], text[i], 7 + drawn * 5 // len(places))

    def known(self, context: bytes) -> bytes:
        """The part of a context that counts."""
        parts = [context[i:] for i in range(len(context) + 1)]
        word = _word(context)
        return next(
            part
            for part in parts
            if not part
            or self.contexts[part].total() > 1
            or (len(part) == len(word) and self.words[word].total() > 1)
            or (len(part) == 1 and not _word(b" " + part))
        )

    def sums(self, context: bytes) -> list[int]:
        """The distribution behind a context, summed up."""
        counters = self._counters(context, None)
        parts = {1: 1 << 31}
        for node in range(1, 256):
            ones = parts[node] >> 1
            if parts[node] >> 13:
                opinions = self._opinions(counters, node)
                ones = parts[node] * self._probability(opinions) >> 16
            parts[2 * node], parts[2 * node + 1] = parts[node] - ones, ones
        return sum_up(np.array([[parts[byte] for byte in range(256, 512)]], np.uint32))[0].tolist()

    def _counters(self, context: bytes, leave: int | None) -> list[Counter[int]]:
        """What followed the suffixes of 0 to 7 bytes and the word, where that was seen twice; without one time of ``leave``."""
        found = [self.contexts[context[len(context) - n :]] for n in range(len(context) + 1)]
        found = [*found, *[Counter[int]()] * (8 - len(found)), self.words[_word(context)]]
        once = Counter[int]() if leave is None else Counter([leave])
        left = [one - once for one in found]
        return [one if n == 0 or one.total() > 1 else Counter() for n, one in enumerate(left)]

    def _opinions(self, counters: list[Counter[int]], node: int) -> list[tuple[tuple[int, ...], int]]:
        """For each counter that knows the bit of ``node``, its place among the weights and its logistic."""
        tallies = [(_passing(one, 2 * node), _passing(one, 2 * node + 1)) for one in counters]
        longest = max(n for n in range(8) if n == 0 or counters[n])
        judge = max(n for n in range(8) if n == 0 or sum(tallies[n]))
        chosen = (judge, _size(sum(tallies[judge])), min(2, longest - judge))
        return [
            ((*chosen, n, _size(n0 + n1), min(3, n0, n1)), min(EDGE, max(-EDGE, _LOGS[n1] - _LOGS[n0])))
            for n, (n0, n1) in enumerate(tallies)
            if n0 + n1
        ]

    def _weight(self, place: tuple[int, ...]) -> int:
        return self.weights.get(place, 3 << 22 if place[0] == place[3] else 1 << 20)

    def _probability(self, opinions: list[tuple[tuple[int, ...], int]]) -> int:
        x = sum(self._weight(place) * opinion for place, opinion in opinions) >> 24
        return _SQUASH[min(EDGE, max(-EDGE, x)) + EDGE]

    def _learn(self, context: bytes, byte: int, slowness: int) -> None:
        counters = self._counters(context, byte)
        for bit in range(8):
            opinions = self._opinions(counters, (256 + byte) >> (8 - bit))
            error = ((byte >> (7 - bit) & 1) << 16) - self._probability(opinions)
            for place, opinion in opinions:
                self.weights[place] = self._weight(place) + (opinion * error >> slowness)


def _word(context: bytes) -> bytes:
    """A space and the letters that a context ends in, lowered; nothing if it does not show what stands before them."""
    letters = bytes(b if b > 127 or chr(b).isalpha() else 32 for b in context).lower()
    _, space, word = letters.rpartition(b" ")
    return space + word if space and word else b""


def _passing(counter: Counter[int], node: int) -> int:
    """How many of the bytes are below a node of the tree of bits."""
    depth = node.bit_length() - 1
    return sum(count for byte, count in counter.items() if (256 + byte) >> (8 - depth) == node)


def _size(count: int) -> int:
    return sum(count >= bound for bound in (2, 3, 4, 6, 8, 12, *(1 << power for power in range(4, 13))))
