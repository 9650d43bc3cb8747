"""Files to archives and back: the result is there when it is whole, or not at all, and nothing is overwritten unasked."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tersely.compress.archive.stream import DEFAULT_MEMORY, Report, compress_stream, decompress_stream
from tersely.errors import CorpusError, UsageError
from tersely.shards.atomic import whole_file

SUFFIX = ".tersely"
STDIO = "-"

FileProgress = Callable[[int, int], None]
"""Called with the bytes of the input that are done, and of how many; 0 if that is not known."""


def compress_file(
    source: str | Path,
    out: str | Path | None = None,
    *,
    memory: int = DEFAULT_MEMORY,
    threads: int = 1,
    force: bool = False,
    on_progress: FileProgress | None = None,
) -> tuple[Report, str]:
    """Writes the archive of a file, which is kept; the report, and where the archive is.

    Args:
        source: the file; ``-`` for standard input.
        out: where to; ``-`` for standard output. By default ``source`` with ``.tersely`` behind its name, or standard output for
            standard input.
        memory: see ``compress_stream``.
        threads: see ``compress_stream``.
        force: replace ``out`` if it exists.
        on_progress: see ``FileProgress``.

    Raises:
        CorpusError: ``out`` exists, or cannot be used.
        UsageError: an argument is not allowed.
    """
    place = str(out) if out is not None else STDIO if str(source) == STDIO else f"{source}{SUFFIX}"
    with _opened(source) as (reading, size), _made(source, place, force) as writing:
        tell = _telling(on_progress, size)
        report = compress_stream(reading, writing, memory=memory, threads=threads, on_progress=tell)
    return report, place


def decompress_file(
    source: str | Path,
    out: str | Path | None = None,
    *,
    threads: int = 1,
    force: bool = False,
    on_progress: FileProgress | None = None,
) -> tuple[Report, str]:
    """Writes what an archive holds, and keeps the archive; the report, and where the file is.

    Args:
        source: the archive; ``-`` for standard input.
        out: where to; ``-`` for standard output. By default ``source`` without its ``.tersely``, or standard output for
            standard input.
        threads: see ``decompress_stream``.
        force: replace ``out`` if it exists.
        on_progress: see ``FileProgress``.

    Raises:
        ArchiveError: the archive is damaged, cut off or none. No ``out`` is left then, but for what standard output has got already.
        CorpusError: ``out`` exists, or cannot be used.
        UsageError: the name of the archive does not tell that of the file.
    """
    place = str(out) if out is not None else _name_of(str(source))
    name = "the archive on standard input" if str(source) == STDIO else str(source)
    with _opened(source) as (reading, size), _made(source, place, force) as writing:
        tell = _telling(on_progress, size)
        report = decompress_stream(reading, writing, name=name, threads=threads, on_progress=tell)
    return report, place


def _name_of(archive: str) -> str:
    if archive == STDIO:
        return STDIO
    if not Path(archive).name.removesuffix(SUFFIX) or not archive.endswith(SUFFIX):
        raise UsageError(f"{archive} does not end in {SUFFIX}: say with --out where to write what it holds")
    return archive.removesuffix(SUFFIX)


def _telling(on_progress: FileProgress | None, size: int) -> Callable[[int], None] | None:
    return None if on_progress is None else lambda done: on_progress(done, size)


@contextmanager
def _opened(source: str | Path) -> Generator[tuple[BinaryIO, int]]:
    """A file to read, and its size, 0 if that is not known."""
    if str(source) == STDIO:
        yield sys.stdin.buffer, 0
        return
    with Path(source).open("rb") as file:
        yield file, os.fstat(file.fileno()).st_size


@contextmanager
def _made(source: str | Path, place: str, force: bool) -> Generator[BinaryIO]:
    """A file to write, which gets its name, and the rights of ``source``, when the block ends well."""
    if place == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(place)
    if not path.parent.is_dir():
        raise CorpusError(f"{path.parent}, where {path.name} would be, is no folder: make it first")
    if path.exists():
        if not path.is_file():
            if path.is_dir():
                raise CorpusError(f"{path} is a folder: say with --out what file to write")
            with path.open("wb") as file:  # a device or a pipe, which has no name to be given
                yield file
            return
        if str(source) != STDIO and path.samefile(source):
            raise CorpusError(f"{path} is the input itself: choose another --out")
        if not force:
            raise CorpusError(f"{path} exists: choose another --out, or replace it with --force")
    with whole_file(path) as temporary, open(temporary, "xb", opener=_private) as file:
        yield file
    path.chmod(_rights(source))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _rights(source: str | Path) -> int:
    """Those of the source; for standard input, those of a new file."""
    if str(source) != STDIO:
        return stat.S_IMODE(os.stat(source).st_mode) & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
