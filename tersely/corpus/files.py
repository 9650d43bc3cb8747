"""Bytes of an input file or of standard input, decompressed on the way, and honest about where they break off."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tersely.corpus.read import Span
from tersely.errors import CorpusError

_BLOCK = 4 << 20
_BEYOND = 1 << 16
"""What is read at a time behind the end of a span, to end its last line."""
_STEP = 4096
"""What is asked of a decompressor at a time: a fault costs what it had in hand, so that is kept small."""

_MOST_RATIO = 500
_RATIO_FROM = 256 << 20
"""An archive that has given this many bytes, and more than ``_MOST_RATIO`` times its own, is taken for a bomb.

Text shrinks by a factor of 3 to 30, logs of one repeated line by 100 to 300; gzip can do 1032 at most, zstd above 30 000.
Behind the first 256 MiB the work that an archive can cause is so bounded by its size.
"""

_MAGIC = (
    ("gzip", re.compile(rb"\x1f\x8b\x08")),
    ("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")),  # a frame, or a skippable one
    ("bz2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")),
)
_MAGIC_BYTES = 16


class ByteStream:
    """The uncompressed bytes of a file (gzip, zstd, bz2 or plain, told by its first bytes), or of standard input.

    Args:
        path: the file, or None for standard input.
        span: of a plain file, the bytes to begin and to pause at: no block has bytes on both sides of ``span.stop``.
        size: of the file when it was listed, 0 if unknown: one that has become shorter has a fault.

    After ``blocks`` ended, ``fault`` says why the stream broke off, or is empty. (Arrow's decompressors notice a
    truncated archive; several others end it as if it were whole.)

    Raises:
        CorpusError: the file cannot be opened.
    """

    def __init__(self, path: Path | None, span: Span | None = None, size: int = 0) -> None:
        self._path, self._span, self._size = path, span, size
        try:
            self._raw = _standard_input() if path is None else path.open("rb")
            if span:
                self._raw.seek(span.start)
            head = self._raw.read(_MAGIC_BYTES) if not span else b""
        except OSError as error:
            raise CorpusError(
                f"{path or 'standard input'} cannot be read: {error.strerror or error}"
            ) from error
        self._codec = _codec(head)
        self._counted = _Counted(self._raw, head)
        self.given = 0
        """Uncompressed bytes that were given in blocks."""
        self.fault = ""

    def stored(self, uncompressed: int) -> int:
        """About how many stored bytes hold the first ``uncompressed`` bytes; exact at the end of the file."""
        return self._counted.count * min(uncompressed, self.given) // max(1, self.given)

    def blocks(self) -> Iterator[bytes]:
        """The bytes, some megabytes at a time, up to a fault."""
        try:
            for block in self._plain() if self._codec is None else self._unpacked():
                self.given += len(block)
                yield block
            self._check_end()
        except (OSError, pa.ArrowException) as error:
            self.fault = f"the input breaks off after {self._counted.count} stored bytes ({_detail(error)})"
        finally:
            self._raw.close()

    def _plain(self) -> Iterator[bytes]:
        stop = self._span.stop - self._span.start if self._span else 0
        while True:
            left = stop - self.given
            size = _BLOCK if not self._span else min(_BLOCK, left) if left > 0 else _BEYOND
            block = self._counted.read(size)
            if not block:
                return
            yield block

    def _unpacked(self) -> Iterator[bytes]:
        stream = pa.CompressedInputStream(pa.PythonFile(self._counted, "r"), self._codec)
        parts: list[bytes] = []
        size = 0
        try:
            while part := stream.read(_STEP):
                parts.append(part)
                size += len(part)
                if size >= _BLOCK:
                    yield b"".join(parts)
                    parts, size = [], 0
                    if is_bomb(self.given, self._counted.count):
                        self.fault = (
                            f"{self._counted.count} stored bytes gave {self.given}, as no archive of documents does "
                            f"(limit: {_MOST_RATIO} times as many): decompress the file first if it is meant so"
                        )
                        return
        except (OSError, pa.ArrowException) as error:
            rest = self._up_to_fault(self.given + size)
            at = self._counted.count
            self.fault = (
                f"the archive breaks off, or something else follows it, at its byte {at} ({_detail(error)})"
            )
            parts.append(rest)
        if any(parts):
            yield b"".join(parts)

    def _check_end(self) -> None:
        """A file that is shorter than it was has lost documents, of which its end says nothing."""
        if not self.fault and self._size and self._size > (length := self._raw.seek(0, io.SEEK_END)):
            self.fault = f"the file ends after {length} bytes; it had {self._size} when it was listed"

    def _up_to_fault(self, known: int) -> bytes:
        """The bytes between the ``known`` ones and the fault, found on a second reading; and where exactly the fault is.

        Arrow inflates a piece of the archive before it gives its first byte, so a fault that it finds there, such as a
        wrong checksum, would cost that piece. The second time, the piece is fed to it byte by byte.
        """
        found: list[bytes] = []
        if self._path is not None and self._path.is_file():
            try:
                with self._path.open("rb") as raw:
                    again = _Counted(raw, b"", careful_from=self._counted.last)
                    stream = pa.CompressedInputStream(pa.PythonFile(again, "r"), self._codec)
                    self._counted = again
                    while known and (part := stream.read(min(known, _STEP))):
                        known -= len(part)
                    while byte := stream.read(1):
                        found.append(byte)
            except (OSError, pa.ArrowException):
                pass  # the fault itself, which is known
        return b"".join(found)


def is_bomb(uncompressed: int, stored: int) -> bool:
    """Whether these many bytes are more than an honest archive makes of the stored ones."""
    return uncompressed > max(_RATIO_FROM, _MOST_RATIO * stored)


def is_archive(path: Path) -> bool:
    """Whether a file is compressed; raises OSError if it cannot be opened."""
    with path.open("rb") as raw:
        return _codec(raw.read(_MAGIC_BYTES)) is not None


def _codec(head: bytes) -> str | None:
    return next((codec for codec, magic in _MAGIC if magic.match(head)), None)


def _detail(error: Exception) -> str:
    return " ".join(str(error).split())


def _standard_input() -> io.BufferedReader[Any]:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise OSError("it is closed")
    stream: Any = sys.stdin.buffer
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)


class _Counted(io.RawIOBase):
    """Passes reads on, first of the ``head`` that was read already, and counts the bytes.

    ``last`` is where the last read began; from ``careful_from`` on, a read gives one byte.
    """

    def __init__(self, raw: io.BufferedReader[Any], head: bytes, careful_from: int | None = None) -> None:
        self._raw = raw
        self._head = head
        self._careful_from = careful_from
        self.count = 0
        self.last = 0

    def read(self, size: int = -1) -> bytes:
        if self._careful_from is not None:
            size = min(size, max(1, self._careful_from - self.count))
        block = self._head[:size] if size >= 0 else self._head
        self._head = self._head[len(block) :]
        if not block or size < 0:
            block += self._raw.read(size)
        if block:
            self.last = self.count
        self.count += len(block)
        return block

    def readable(self) -> bool:
        return True
