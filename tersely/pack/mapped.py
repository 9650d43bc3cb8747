"""Arrays that are computed once and then mapped by every process that needs them.

    FOLDER/.index/NAME.arrow         an Arrow stream: a column for each array, in one row; KEY in its metadata
                                     then the xxh3-128 of all that, 32 hexadecimal digits

The file is a cache: it may be removed at any time. It is believed only if it has the key that is asked for and its
checksum, which every process computes once when it opens it (some gigabytes a second); else it is made again. Where
the folder cannot be written it is kept in ``TMPDIR``, in a folder of the user's own, and where that cannot be written
either, in the memory of each process. Processes that open it at the same time wait for the first one to make it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

from tersely.ragged import Ragged
from tersely.shards.atomic import whole_file
from tersely.shards.writer import file_checksum

Arrays: TypeAlias = dict[str, np.ndarray[Any, Any]]

_DIGITS = 32
_BLOCK = 1 << 22


def mapped_arrays(folder: Path, key: str, build: Callable[[], Mapping[str, np.ndarray[Any, Any]]]) -> Arrays:
    """The arrays that ``build`` makes, mapped from a file of all processes that give the same ``key``.

    Args:
        folder: beside what the arrays were made of; they go to ``.index`` in it if that can be written.
        key: all that decides what they hold.
        build: makes them: vectors of integers, read-only afterwards.
    """
    name = f"{xxhash.xxh3_128_hexdigest(key.encode())}.arrow"
    for place in _places(folder):
        if _is_trusted(place) and (found := _read(place / name, key)):
            return found
    built: Arrays = {}
    for place in _places(folder):
        try:
            place.mkdir(mode=0o755 if place.parent == folder else 0o700, exist_ok=True)
            if not _is_trusted(place):
                continue
            with _alone(place / "lock"):
                if found := _read(place / name, key):
                    return found
                built = built or dict(build())
                _write(place / name, key, built)
        except OSError:
            continue  # read-only, or full: the next place, and at last the memory of this process
        if found := _read(place / name, key):
            return found
    return built or dict(build())


def _places(folder: Path) -> Iterator[Path]:
    yield folder / ".index"
    yield Path(tempfile.gettempdir()) / f"tersely-{os.getuid()}"


def _is_trusted(place: Path) -> bool:
    """Whether no other user could have put files there, unless the folder with the data is theirs too."""
    try:
        found = os.lstat(place)
    except OSError:
        return False
    ours = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and (place.name == ".index" or ours)


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Waits until no other process is in here; the system gives the lock back when a process ends."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, key: str, arrays: Arrays) -> None:
    columns = [Ragged(values, [0, len(values)]).to_arrow() for values in arrays.values()]
    schema = pa.schema(
        [(name, column.type) for name, column in zip(arrays, columns, strict=True)], metadata={"key": key}
    )
    with whole_file(path) as temporary:
        with pa.OSFile(os.fsencode(temporary), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(pa.record_batch(columns, schema=schema))
        digest = file_checksum(temporary)
        with temporary.open("ab") as file:
            file.write(digest.encode())


def _read(path: Path, key: str) -> Arrays | None:
    """The arrays of the file, mapped; None if it is not there, damaged, or of another key."""
    try:
        if not _is_whole(path):
            return None
        with pa.memory_map(os.fsencode(path)) as file:
            table = pa.ipc.open_stream(file).read_all()
        if (table.schema.metadata or {}).get(b"key") != key.encode():
            return None
        return {name: Ragged.from_arrow(table.column(name)).values for name in table.column_names}
    except (OSError, pa.ArrowException, ValueError):
        return None


def _is_whole(path: Path) -> bool:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - _DIGITS
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
        return left == 0 and file.read() == digest.hexdigest().encode()
