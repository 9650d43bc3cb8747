"""Blocks to coded blocks and back: a model that runs on from block to block, and the coder under it."""

from __future__ import annotations

import zlib

import numpy as np

from tersely.compress.archive.format import Block
from tersely.compress.archive.model import coder, new_model


class Codec:
    """One model and what it has learned so far: it encodes, or it decodes, the blocks of one segment in their order.

    Args:
        memory: bytes of its slots, a power of two.
    """

    def __init__(self, memory: int) -> None:
        self._model = new_model(memory)

    def encode(self, raw: bytes) -> Block:
        """A block of the bytes that follow; its payload is never larger than they are."""
        source = np.frombuffer(raw, np.uint8)
        out = np.empty(len(source), np.uint8)
        size = coder.encode(source, out, *self._model)
        stored = size > len(out)
        payload = raw if stored else out[:size].tobytes()
        return Block(raw=len(raw), crc=zlib.crc32(payload, zlib.crc32(raw)), stored=stored, payload=payload)

    def decode(self, block: Block) -> bytes | None:
        """The bytes of the next block; None if it is damaged."""
        if block.stored:
            raw = block.payload
            self.encode(raw)  # for the model to learn it, as it did when it was stored
        else:
            out = np.empty(block.raw, np.uint8)
            used = coder.decode(np.frombuffer(block.payload, np.uint8), out, *self._model)
            if used != len(block.payload):
                return None
            raw = out.tobytes()
        return raw if zlib.crc32(block.payload, zlib.crc32(raw)) == block.crc else None
