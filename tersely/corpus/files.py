"""Bytes of an input file or of standard input, decompressed on the way, and honest about where they break off."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tersely.errors import CorpusError

_BLOCK = 4 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}


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
        try:
            self._raw = _standard_input() if path is None else path.open("rb")
            head = self._raw.peek(8)[:8]
        except OSError as error:
            raise CorpusError(
                f"{path or 'standard input'} cannot be read: {error.strerror or error}"
            ) from error
        codec = next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)
        self._counted = _Counted(self._raw)
        self._stream = (
            pa.CompressedInputStream(pa.PythonFile(self._counted, "r"), codec) if codec else self._counted
        )
        self._given = 0
        self.fault = ""

    def stored(self, uncompressed: int) -> int:
        """About how many stored bytes hold the first ``uncompressed`` bytes; exact at the end of the file."""
        return self._counted.count * min(uncompressed, self._given) // max(1, self._given)

    def blocks(self) -> Iterator[bytes]:
        """The bytes, some megabytes at a time."""
        try:
            while block := self._stream.read(_BLOCK):
                self._given += len(block)
                yield block
        except (OSError, pa.ArrowException) as error:
            detail = " ".join(str(error).split())
            self.fault = f"the input breaks off after {self._counted.count} stored bytes ({detail})"
        finally:
            self._raw.close()


def _standard_input() -> io.BufferedReader[Any]:
    stream: Any = sys.stdin.buffer
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)


class _Counted(io.RawIOBase):
    """Passes reads on and counts the bytes."""

    def __init__(self, raw: io.BufferedReader[Any]) -> None:
        self._raw = raw
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        block = self._raw.read(size)
        self.count += len(block)
        return block

    def readable(self) -> bool:
        return True
