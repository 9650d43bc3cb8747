"""Streams in, archives out, and back, in bounded memory: a block at a time, or a segment in each thread.

one thread     block 0 -> block 1 -> block 2 -> ...            one model, which never forgets: the smallest archive
more threads   block 0 -> ... -> block 15                      segments of 16 MiB, each with a model of its own
               block 16 -> ... -> block 31
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from tersely.compress.archive.codec import Codec
from tersely.compress.archive.format import (
    ArchiveReader,
    Block,
    Header,
    block_bytes,
    end_bytes,
    header_bytes,
)
from tersely.errors import UsageError

DEFAULT_MEMORY = 1 << 28
BLOCK = 1 << 20
SEGMENT = 16
"""Blocks of a segment."""

_Piece = TypeVar("_Piece")
_Done = TypeVar("_Done")
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was read or written.

    Attributes:
        size: bytes of the text.
        archived: bytes of the archive.
        blocks: blocks in it.
        segments: models that started from nothing.
    """

    size: int
    archived: int
    blocks: int
    segments: int


def compress_stream(
    source: BinaryIO,
    out: BinaryIO,
    *,
    memory: int = DEFAULT_MEMORY,
    block: int = BLOCK,
    threads: int = 1,
    on_progress: Progress | None = None,
) -> Report:
    """Writes what is left of ``source`` to ``out`` as an archive.

    The archive is the same for the same bytes, memory and block, on every machine, for one thread; and for any larger number of
    threads, which gives another one: independent segments of 16 blocks.

    Args:
        source: any bytes; read to its end.
        out: written from where it is.
        memory: bytes for what the model remembers, a power of two from 1 MiB to 1 GiB; it is taken for each thread, and by the
            reader too.
        block: bytes of a block, 1 KiB to 16 MiB.
        threads: segments that are coded at a time.
        on_progress: called with the bytes that are done.

    Raises:
        UsageError: an argument is not allowed.
    """
    header = Header(memory=memory, block=block, segment=SEGMENT if threads > 1 else 0)
    if header.fault:
        raise UsageError(f"no archive can have {header.fault}: choose another")
    tell = on_progress or (lambda done: None)
    out.write(header_bytes(header))
    size, number = 0, 0
    archived = len(header_bytes(header))
    with closing(_coded(_blocks(source, block), header, threads)) as blocks:
        for coded in blocks:
            written = block_bytes(coded, number)
            out.write(written)
            archived += len(written)
            size += coded.raw
            number += 1
            tell(size)
    out.write(end_bytes(size, number))
    archived += len(end_bytes(size, number))
    return Report(size=size, archived=archived, blocks=number, segments=_segments(number, header))


def decompress_stream(
    source: BinaryIO,
    out: BinaryIO,
    *,
    name: str = "the archive",
    threads: int = 1,
    on_progress: Progress | None = None,
) -> Report:
    """Writes what the archive ``source`` holds to ``out``; nothing that was written counts if it raises.

    Args:
        source: an archive, with nothing behind it.
        out: written from where it is.
        name: what errors call the archive.
        threads: segments that are decoded at a time, in an archive that has more than one.
        on_progress: called with the bytes of the archive that are done.

    Raises:
        ArchiveError: it is damaged, cut off, or no archive that this version reads.
    """
    reader = ArchiveReader(source, name)
    tell = on_progress or (lambda done: None)
    size, number = 0, 0
    with closing(_decoded(reader, threads)) as blocks:
        for raw in blocks:
            if raw is None:
                raise reader.damaged("its bytes do not match their checksum", number)
            out.write(raw)
            size += len(raw)
            number += 1
            tell(reader.at)
    return Report(size=size, archived=reader.at, blocks=number, segments=_segments(number, reader.header))


def _segments(blocks: int, header: Header) -> int:
    return min(blocks, 1) if header.segment == 0 else -(-blocks // header.segment)


def _blocks(source: BinaryIO, size: int) -> Iterator[bytes]:
    """All of ``source``, in blocks of ``size`` but for the last."""
    parts, held = list[bytes](), 0
    while part := source.read(size - held):
        parts.append(part)
        held += len(part)
        if held == size:
            yield b"".join(parts)
            parts, held = [], 0
    if held:
        yield b"".join(parts)


def _coded(blocks: Iterator[bytes], header: Header, threads: int) -> Generator[Block]:
    return _in_order(blocks, header, threads, lambda codec, raw: codec.encode(raw))


def _decoded(reader: ArchiveReader, threads: int) -> Generator[bytes | None]:
    blocks = iter(reader.next_block, None)
    return _in_order(blocks, reader.header, threads, lambda codec, block: codec.decode(block))


def _in_order(
    pieces: Iterator[_Piece], header: Header, threads: int, work: Callable[[Codec, _Piece], _Done]
) -> Generator[_Done]:
    """Does the work on all pieces, with a new codec for each segment, and gives the results in order."""
    if header.segment == 0:
        codec = None
        for piece in pieces:
            codec = codec or Codec(header.memory)
            yield work(codec, piece)
        return
    with _pool(threads) as (pool, stop):

        def segment(held: list[_Piece]) -> list[_Done]:
            codec = Codec(header.memory)
            return [work(codec, piece) for piece in held if not stop.is_set()]

        waiting: deque[Future[list[_Done]]] = deque()
        for held in _grouped(pieces, header.segment):
            if len(waiting) == threads:
                yield from waiting.popleft().result()
            waiting.append(pool.submit(segment, held))
        while waiting:
            yield from waiting.popleft().result()


def _grouped(pieces: Iterator[_Piece], size: int) -> Iterator[list[_Piece]]:
    held = list[_Piece]()
    for piece in pieces:
        held.append(piece)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


@contextmanager
def _pool(threads: int) -> Generator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Threads that stop at their next block when the caller does not go on."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool, stop
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
