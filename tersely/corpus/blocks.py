"""A sample of a stream of texts that does not depend on their order or batches, in bounded memory.

Texts are cut into blocks, and a block is in the sample if its hash is below a threshold. When the sample outgrows its
bound the threshold is halved, so what remains is what a smaller threshold would have chosen from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator

import xxhash

_BLOCK = 4096  # characters


class BlockSample:
    """Blocks of text of at most ``bound`` bytes of UTF-8 together."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._threshold = 1 << 64
        self._blocks: list[tuple[int, int, str]] = []
        self._held = 0
        self.bytes = 0
        """Bytes of all texts that were added."""

    def add(self, text: str) -> None:
        """Takes the blocks of a text that belong into the sample."""
        for start in range(0, len(text), _BLOCK):
            block = text[start : start + _BLOCK]
            raw = block.encode()
            self.bytes += len(raw)
            place = xxhash.xxh3_64_intdigest(raw)
            if place < self._threshold:
                self._blocks.append((place, len(raw), block))
                self._held += len(raw)
        self.shrink(self._bound)

    def shrink(self, bound: int) -> None:
        """Sets another bound, not above the present one."""
        self._bound = bound
        while self._held > self._bound:
            self._threshold >>= 1
            self._blocks = [block for block in self._blocks if block[0] < self._threshold]
            self._held = sum(size for _, size, _ in self._blocks)

    def texts(self, batch_bytes: int = 1 << 18) -> Iterator[list[str]]:
        """The blocks, in batches, in an order that depends on them alone."""
        batch: list[str] = []
        held = 0
        for _, size, block in sorted(self._blocks):
            batch.append(block)
            held += size
            if held >= batch_bytes:
                yield batch
                batch, held = [], 0
        if batch:
            yield batch
