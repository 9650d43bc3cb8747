"""The folder a conversion writes: whole files with their checksums, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from tersely.errors import UsageError
from tersely.shards.atomic import whole_file


class Output:
    """Writes the files of a format into ``folder``.

    Attributes:
        folder: where they go.
        files: of every file written so far its size and xxh3-128, by its path in the folder.
        advance: to be called with the tokens that were written.
    """

    def __init__(self, folder: Path, advance: Callable[[int], None]) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, Any]] = {}
        self.advance = advance

    @contextmanager
    def file(self, name: str) -> Generator[SummedFile]:
        """A file to write to, which is there under its name when the block ends, and only whole."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as raw:
            file = SummedFile(raw)
            yield file
        self.files[name] = {"size": file.size, "xxh3_128": file.checksum}


class SummedFile:
    """A file that is written from front to end, and knows its size and checksum."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._digest = xxhash.xxh3_128()
        self.size = 0

    @property
    def checksum(self) -> str:
        """xxh3-128 of what was written, 32 hexadecimal digits."""
        return self._digest.hexdigest()

    def write(self, content: bytes | np.ndarray[Any, Any]) -> None:
        """Appends bytes, or an array's in the order of the machine, which is little endian."""
        view = memoryview(content) if isinstance(content, bytes) else np.ascontiguousarray(content).data
        self._raw.write(view)
        self._digest.update(view)
        self.size += view.nbytes


def signed(values: np.ndarray[Any, Any], reader: str) -> np.ndarray[Any, Any]:
    """The same ids, as int32 if they are uint32, which ``reader`` does not know.

    Raises:
        UsageError: an id is above 2**31 - 1.
    """
    if values.dtype != np.uint32:
        return values
    if len(values) and int(values.max()) >= 2**31:
        raise UsageError(
            f"id {int(values.max())} is above 2**31 - 1, the largest that {reader} reads: convert to memmap or mds instead"
        )
    return values.view(np.int32)
