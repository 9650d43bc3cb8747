"""What every executor offers: exactly one outcome for each item, and nothing left running."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of one item: it has a ``result``, unless there is an ``error`` or ``died`` says something."""

    item: Item
    result: Result | None = None
    error: BaseException | None = None
    """What ``work`` raised; an ``ExecutorError`` with its text, if it cannot be carried between processes."""
    died: str = ""
    """How the process that had the item ended: ``killed by SIGKILL``, ``exit code 3``, ``its node was lost``."""


class Executor(Protocol):
    """Runs the same work on many items.

    A process may be killed at any point of its work, so work is for tasks that can be done again: a second run
    overwrites what the first one left. To try again the items that died is the caller's decision: pass them to
    another ``run``.
    """

    def run(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """The outcome of each item, as they come, in any order.

        Items are taken from the iterable only as workers get free. Closing the generator, or an exception while it
        is at work (Ctrl-C, the SystemExit of a signal handler, one that ``items`` raises), ends all workers before it
        returns. Use it in ``with contextlib.closing(executor.run(...)) as outcomes`` where the loop may be left.

        Raises:
            UsageError: ``work`` cannot be sent to the workers.
            ExecutorError: there are no workers to be had.
        """
        ...
