"""What is known of a task: what its journal says is done, and where it is just now.

A journal has three kinds of lines. One says that records are dealt with, up to a batch of a part, and what became of
them: their counts, and their shard if they made one. The last of these has ``end``. The others leave something out of
the task: an input that broke off, or a record that kills the process; what was done before such a line does not count,
because the documents behind would have been packed with it. (A line that leaves out nothing, ``again``, follows where
files were found to be missing.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tersely.corpus.job.place import Place


@dataclass
class Counts:
    """What became of the records of a part; all but ``lines`` and ``fault`` add up over the lines of a journal."""

    records: int = 0
    documents: int = 0
    empty: int = 0
    quarantined: int = 0
    bytes: int = 0
    repaired: int = 0
    untrained: int = 0
    lines: int = 0
    fault: str = ""

    def __iadd__(self, other: Counts) -> Counts:
        for name in ("records", "documents", "empty", "quarantined", "bytes", "repaired", "untrained"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lines = max(self.lines, other.lines)
        self.fault = self.fault or other.fault
        return self


@dataclass
class Done:
    """What a journal says: the lines that count, what is left out, and where to go on."""

    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    left_out: dict[int, str] = field(default_factory=dict[int, str])
    """Parts, with the reason."""
    poison: dict[tuple[int, int], dict[int, str]] = field(
        default_factory=dict[tuple[int, int], dict[int, str]]
    )
    """For a batch of a part, the texts of it and the reasons."""
    written: int = 0
    """The most numbers that its files have had, those included that do not count any more."""
    damaged: bool = False
    """Whether files of it are not there."""

    @classmethod
    def of(cls, place: Place, task: int) -> Done:
        """As the journal of a task stands now. If files that it speaks of are not there, or not of the size they had,
        nothing counts.
        """
        done = cls()
        for line in place.journal(task).read():
            if "leave_out" in line:
                part, reason = line["leave_out"]
                done.left_out[part] = reason
            elif "again" in line:
                pass
            elif "poison" in line:
                part, batch, text, reason = line["poison"]
                done.poison.setdefault((part, batch), {})[text] = reason
            else:
                done.lines.append(line)
                done.written = max(done.written, len(done.lines))
                continue
            done.lines = []
        files = [file for line in done.lines for file in line["files"].items()]
        if not all(place.has(name, size) for name, size in files):
            done.damaged, done.lines = True, []
        return done

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return bool(self.lines) and "end" in self.lines[-1]

    @property
    def next(self) -> tuple[int, int]:
        """The part and batch that come next."""
        part, batch = self.lines[-1]["next"] if self.lines else (0, 0)
        return part, batch

    @property
    def counts(self) -> Iterator[tuple[int, Counts]]:
        """Parts and counts, of which a part may have several."""
        for line in self.lines:
            for part, counts in line["counts"].items():
                yield int(part), Counts(**counts)


@dataclass(frozen=True)
class At:
    """Where a task is: the batch in hand, and what it read and made so far."""

    part: int = 0
    batch: int = 0
    bytes_read: int = 0
    documents: int = 0
    tokens: int = 0
    quarantined: int = 0

    @classmethod
    def read(cls, path: Path) -> At:
        """As the file says; the beginning if there is none, or it is just being written."""
        try:
            return cls(*map(int, path.read_text().split()))
        except (OSError, ValueError, TypeError):
            return cls()
