"""The container, version 1: what stands before, between and behind the coded blocks; docs/archives.md has the layout.

Every number is little-endian. All that is read is checked before it is believed, so no claim of a damaged or hostile file makes
a reader allocate more than the header allows.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from tersely.compress.archive.model import LARGEST, SMALLEST, fingerprint
from tersely.errors import ArchiveError

MAGIC = b"\x93TERSELY"
VERSION = 1
SMALLEST_BLOCK, LARGEST_BLOCK = 1 << 10, 1 << 24
LARGEST_SEGMENT = 1 << 28
"""The most bytes of a segment, for archives that have more than one."""

_HEADER = struct.Struct("<8sBBHII8s")
_BLOCK = struct.Struct("<BxxxIII")
_END = struct.Struct("<BxxxQI")
_CRC = struct.Struct("<I")
_CODED, _STORED, _LAST = 1, 2, 0


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an archive begins with.

    Attributes:
        memory: bytes of the model's slots, a power of two from ``SMALLEST`` to ``LARGEST``.
        block: the most bytes of a block before coding.
        segment: blocks after which the model starts from nothing again; 0 for never.
    """

    memory: int
    block: int
    segment: int

    @property
    def fault(self) -> str:
        """What makes it impossible; empty if nothing does."""
        if self.memory & (self.memory - 1) or not SMALLEST <= self.memory <= LARGEST:
            return f"a model of {self.memory} bytes, not a power of two from {SMALLEST} to {LARGEST}"
        if not SMALLEST_BLOCK <= self.block <= LARGEST_BLOCK:
            return f"blocks of {self.block} bytes, not {SMALLEST_BLOCK} to {LARGEST_BLOCK}"
        if self.segment * self.block > LARGEST_SEGMENT:
            return f"segments of {self.segment * self.block} bytes, more than {LARGEST_SEGMENT}"
        return ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block as it stands in an archive.

    Attributes:
        raw: its bytes before coding.
        crc: the CRC-32 of these and then of ``payload``, so that also a change that does not matter is found.
        stored: whether ``payload`` is those bytes themselves, for coding would have made them more.
        payload: the coded bytes.
    """

    raw: int
    crc: int
    stored: bool
    payload: bytes


def header_bytes(header: Header) -> bytes:
    """The first 32 bytes of an archive."""
    memory = header.memory.bit_length() - 1
    head = _HEADER.pack(MAGIC, VERSION, memory, 0, header.block, header.segment, fingerprint())
    return head + _CRC.pack(zlib.crc32(head))


def block_bytes(block: Block, number: int) -> bytes:
    """The ``number``-th block, from 0, with what stands before it."""
    kind = _STORED if block.stored else _CODED
    head = _BLOCK.pack(kind, block.raw, len(block.payload), block.crc)
    return head + _CRC.pack(_numbered(head, number)) + block.payload


def end_bytes(size: int, blocks: int) -> bytes:
    """The end of an archive of ``size`` bytes in ``blocks`` blocks."""
    head = _END.pack(_LAST, size, blocks & 0xFFFFFFFF)
    return head + _CRC.pack(_numbered(head, blocks))


class ArchiveReader:
    """Reads an archive from its beginning to its end, once, and refuses whatever is not as it must be.

    Args:
        file: what to read from; it need not be seekable.
        name: what errors call it.

    Attributes:
        header: what the archive begins with.
        number: how many blocks were read.
        at: bytes that were read.

    Raises:
        ArchiveError: the file is no archive, or one that this version does not read.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name, self.at, self.number = name, 0, 0
        self._file, self._size = file, 0
        self.header = self._read_header()

    def next_block(self) -> Block | None:
        """The next block; None after the last one, once the end is checked.

        Raises:
            ArchiveError: the archive is damaged or cut off.
        """
        head = self._read(_BLOCK.size + _CRC.size)
        if _CRC.unpack(head[_BLOCK.size :])[0] != _numbered(head[: _BLOCK.size], self.number):
            raise self.damaged("its head does not match its checksum")
        kind, raw, coded, crc = _BLOCK.unpack(head[: _BLOCK.size])
        if kind == _LAST:
            return self._end(head)
        if kind not in (_CODED, _STORED) or not 1 <= raw <= self.header.block:
            raise self.damaged(f"it claims {raw} bytes, of kind {kind}")
        if not 1 <= coded <= raw or (kind == _STORED and coded != raw):
            raise self.damaged(f"it claims {coded} coded bytes for {raw}")
        block = Block(raw=raw, crc=crc, stored=kind == _STORED, payload=self._read(coded))
        self.number += 1
        self._size += raw
        return block

    def damaged(self, what: str, number: int | None = None) -> ArchiveError:
        """The error for a block, by default the one that is being read."""
        number = self.number if number is None else number
        return ArchiveError(
            f"{self.name} is damaged in block {number}, before byte {self.at}: {what}; get the archive from its source again"
        )

    def _read_header(self) -> Header:
        head = self._file.read(_HEADER.size + _CRC.size)
        self.at = len(head)
        if not head.startswith(MAGIC):
            raise ArchiveError(f"{self.name} is no archive of 'tersely compress': it does not begin like one")
        if len(head) < _HEADER.size + _CRC.size:
            raise ArchiveError(
                f"{self.name} ends at byte {self.at}, in its header: get it from its source again"
            )
        _, version, memory, zero, block, segment, model = _HEADER.unpack(head[: _HEADER.size])
        if version != VERSION:
            raise ArchiveError(
                f"{self.name} has format version {version}, and this tersely reads {VERSION}: use the one that wrote it"
            )
        if _CRC.unpack(head[_HEADER.size :])[0] != zlib.crc32(head[: _HEADER.size]) or zero:
            raise ArchiveError(f"{self.name} is damaged in its header: get the archive from its source again")
        header = Header(memory=1 << min(memory, 63), block=block, segment=segment)
        if header.fault:
            raise ArchiveError(f"{self.name} is refused: its header asks for {header.fault}")
        if model != fingerprint():
            raise ArchiveError(f"{self.name} was written with another model: use the tersely that wrote it")
        return header

    def _read(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        parts, left = list[bytes](), size
        while left:
            part = self._file.read(left)
            if not part:
                raise ArchiveError(
                    f"{self.name} is cut off at byte {self.at + size - left}, in block {self.number}: "
                    "get the archive from its source again"
                )
            parts.append(part)
            left -= len(part)
        self.at += size
        return b"".join(parts)

    def _end(self, head: bytes) -> None:
        _, size, blocks = _END.unpack(head[: _END.size])
        if size != self._size or blocks != self.number & 0xFFFFFFFF:
            raise self.damaged(
                f"its end counts {blocks} blocks of {size} bytes, and there were {self.number} of {self._size}"
            )
        if self._file.read(1):
            raise ArchiveError(
                f"{self.name} goes on behind its end at byte {self.at}: cut it off there, or get it again"
            )


def _numbered(head: bytes, number: int) -> int:
    """The checksum of a block's head, which also tells its number, so that no block can stand in another's place."""
    return zlib.crc32(head, number & 0xFFFFFFFF)
