"""Bytes of an input file or of standard input, decompressed on the way, and honest about where they break off."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tersely.errors import CorpusError

_BLOCK = 4 << 20
_STEP = 4096
"""What is asked of a decompressor at a time: a fault costs what it had in hand, so that is kept small."""

_MAGIC = (
    ("gzip", re.compile(rb"\x1f\x8b\x08")),
    ("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")),  # a frame, or a skippable one
    ("bz2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")),
)


class ByteStream:
    """The uncompressed bytes of a file (gzip, zstd, bz2 or plain, told by its first bytes), or of standard input.

    Args:
        path: the file, or None for standard input.

    After ``blocks`` ended, ``fault`` says why the stream broke off, or is empty. (Arrow's decompressors notice a
    truncated archive; several others end it as if it were whole.)

    Raises:
        CorpusError: the file cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            self._raw = _standard_input() if path is None else path.open("rb")
            head = self._raw.read(16)
        except OSError as error:
            raise CorpusError(
                f"{path or 'standard input'} cannot be read: {error.strerror or error}"
            ) from error
        self._codec = next((codec for codec, magic in _MAGIC if magic.match(head)), None)
        self._counted = _Counted(self._raw, head)
        self._given = 0
        self.fault = ""

    def stored(self, uncompressed: int) -> int:
        """About how many stored bytes hold the first ``uncompressed`` bytes; exact at the end of the file."""
        return self._counted.count * min(uncompressed, self._given) // max(1, self._given)

    def blocks(self) -> Iterator[bytes]:
        """The bytes, some megabytes at a time, up to a fault (or to the piece of an archive that has it)."""
        parts: list[bytes] = []
        size = 0
        try:
            for part in self._parts(self._counted):
                parts.append(part)
                size += len(part)
                if size >= _BLOCK:
                    yield self._block(parts)
                    parts, size = [], 0
        except (OSError, pa.ArrowException) as error:
            detail = " ".join(str(error).split())
            self.fault = f"the input breaks off after {self._counted.count} stored bytes ({detail})"
            parts.append(self._before_fault(self._given + size))
        finally:
            self._raw.close()
        if any(parts):
            yield self._block(parts)

    def _block(self, parts: list[bytes]) -> bytes:
        block = b"".join(parts)
        self._given += len(block)
        return block

    def _parts(self, raw: Any, step: int = _STEP) -> Iterator[bytes]:
        if self._codec is None:
            stream, step = raw, _BLOCK
        else:
            stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), self._codec)
        while part := stream.read(step):
            yield part

    def _before_fault(self, known: int) -> bytes:
        """The bytes between the ``known`` ones and the fault, one by one on a second reading.

        Arrow inflates a piece of the archive before it gives its first byte, so a fault that it finds there, such as a
        wrong checksum, still costs that piece.
        """
        found: list[bytes] = []
        if self._path is not None and self._codec is not None and self._path.is_file():
            try:
                with self._path.open("rb") as raw:
                    stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), self._codec)
                    while known and (part := stream.read(min(known, _STEP))):
                        known -= len(part)
                    while byte := stream.read(1):
                        found.append(byte)
            except (OSError, pa.ArrowException):
                pass  # the fault itself, which is known
        return b"".join(found)


def _standard_input() -> io.BufferedReader[Any]:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise OSError("it is closed")
    stream: Any = sys.stdin.buffer
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)


class _Counted(io.RawIOBase):
    """Passes reads on, first of the ``head`` that was read already, and counts the bytes."""

    def __init__(self, raw: io.BufferedReader[Any], head: bytes) -> None:
        self._raw = raw
        self._head = head
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        block = self._head[:size] if size >= 0 else self._head
        self._head = self._head[len(block) :]
        if not block or size < 0:
            block += self._raw.read(size)
        self.count += len(block)
        return block

    def readable(self) -> bool:
        return True
