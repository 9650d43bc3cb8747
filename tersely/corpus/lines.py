"""Lines of a stream, or of a span of it: where each begins, and no more than the beginning of one that is too long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tersely.corpus.files import ByteStream
from tersely.corpus.read import BOM, Span

_AT_ONCE = 256
_KEPT = 4096
"""Bytes that are kept of a line above the limit."""


@dataclass(slots=True)
class Lines:
    """Consecutive lines without their newlines, or one line that is ``cut``.

    Attributes:
        lines: some lines, of which none is above the limit; or the beginning of one that is.
        at: the byte of the input that the first one begins at.
        end: the byte behind the newline of the last one.
        cut: the length of the line above the limit, else 0.
    """

    lines: list[bytes]
    at: int
    end: int
    cut: int = 0


def lines_of(stream: ByteStream, span: Span | None, limit: int) -> Iterator[Lines]:
    """All lines of a stream, or those that begin in the span (then the stream is that of ``one_before``).

    What stands before a break in the stream is not a line: it is left to the caller to report ``stream.fault``. A byte
    order mark at byte 0 belongs to no line.
    """
    at = one_before(span).start if span else 0
    foreign = at < span.start if span else False  # the first line began before the span
    begun, length = [b""], 0  # a line whose newline is not reached, and how long it is up to now
    for block in stream.blocks():
        behind = span is not None and at + length >= span.stop
        if behind and (foreign or not length):
            return  # whose line this is, reads it
        *lines, rest = block.split(b"\n", 1 if behind else -1)
        if lines:
            first = Lines([b"".join([*begun, lines[0]])], at, at + length + len(lines[0]) + 1)
            at = first.end
            if not foreign:
                yield from _checked(first, limit)
            if behind:
                return
            foreign = False
            for start in range(1, len(lines), _AT_ONCE):
                some = lines[start : start + _AT_ONCE]
                end = at + sum(map(len, some)) + len(some)
                yield from _checked(Lines(some, at, end), limit)
                at = end
            begun, length = [], 0
        length += len(rest)
        begun.append(rest)
        if length > limit:
            begun = [b"".join(begun)[:_KEPT]]
    if length and not foreign and not stream.fault:
        yield from _checked(Lines([b"".join(begun)], at, at + length + 1), limit)


def one_before(span: Span) -> Span:
    """The bytes to read for a span: from one byte before it, which tells whether the span begins with a line."""
    return Span(max(0, span.start - 1), span.stop)


def _checked(found: Lines, limit: int) -> Iterator[Lines]:
    """The same, with each line above the limit alone and cut."""
    if found.at == 0 and found.lines[0].startswith(BOM):
        found.lines[0] = found.lines[0][len(BOM) :]
        found.at = len(BOM)
    if len(found.lines) == 1:
        length = found.end - found.at - 1
        if length > limit:
            found.lines[0], found.cut = found.lines[0][:_KEPT], length
        yield found
    elif max(map(len, found.lines)) <= limit:
        yield found
    else:
        at = found.at
        for line in found.lines:
            yield from _checked(Lines([line], at, at + len(line) + 1), limit)
            at += len(line) + 1
