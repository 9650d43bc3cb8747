"""The quarantine by reason, in one pass over its lines: memory does not grow with the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tersely.errors import ShardError
from tersely.shards.writer import QUARANTINE_NAME

_MOST_KINDS = 1000
"""Reasons that are told apart; records of others, which come later, are counted together."""

_MOST_EXAMPLES = 3
_LONGEST_LINE = 1 << 20
_TICK = 1 << 12
_SHOWN = 400
"""Characters of a reason, a name or an excerpt that are kept."""

_NUMBER = re.compile(r"(?<![\w-])\d+(?:,\d{3})*\b")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A record in quarantine: the line counts from 1 (0: the input as a whole), the byte from 0 (-1: there is none)."""

    source: str
    line: int
    byte: int
    reason: str
    excerpt: str


@dataclass
class Kind:
    """Records with one reason, in which numbers are replaced with ``#``; ``examples`` are the first of them."""

    reason: str
    records: int = 0
    examples: list[Example] = field(default_factory=list[Example])


@dataclass(frozen=True)
class Quarantine:
    """All records in quarantine: by reason, the most frequent first, and how many had reasons beyond the first 1000."""

    records: int
    kinds: list[Kind]
    others: int


def read_quarantine(
    folder: Path, records: int, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Quarantine:
    """Reads ``quarantine.jsonl``, which has this many ``records``.

    Raises:
        ShardError: it is missing, a line of it is no record, or there are more or fewer of them.
    """
    path = folder / QUARANTINE_NAME
    kinds: dict[str, Kind] = {}
    others = number = 0
    if records and not path.is_file():
        raise ShardError(f"{path} is missing: the folder was copied in part; copy or prepare it again")
    for number, line in enumerate(_lines(path) if path.is_file() else (), 1):
        example = _example(line, path, number)
        reason = _NUMBER.sub("#", example.reason)
        if reason not in kinds and len(kinds) == _MOST_KINDS:
            others += 1
            continue
        kind = kinds.setdefault(reason, Kind(reason))
        kind.records += 1
        if len(kind.examples) < _MOST_EXAMPLES:
            kind.examples.append(example)
        if not number % _TICK:
            on_progress(number, records)
    if number != records:
        raise ShardError(
            f"{path} has {number} lines, the manifest says {records} records: copy or prepare it again"
        )
    return Quarantine(records, sorted(kinds.values(), key=lambda kind: -kind.records), others)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            yield line


def _example(line: bytes, path: Path, number: int) -> Example:
    try:
        record: dict[str, Any] = json.loads(line)
        return Example(
            source=str(record["source"])[:_SHOWN],
            line=int(record["line"]),
            byte=int(record["byte"]),
            reason=str(record["reason"])[:_SHOWN],
            excerpt=str(record["excerpt"])[:_SHOWN],
        )
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ShardError(
            f"{path}, line {number}, is no record ({error}): copy or prepare the folder again"
        ) from error
