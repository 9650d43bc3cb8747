r"""Work in processes of this machine; one that dies costs its item and nothing else.

    LocalExecutor -- pipe --> worker       started by multiprocessing's fork server, which has imported what they
                 \- pipe --> worker       need once: a worker starts in milliseconds, and shares that memory

``concurrent.futures`` gives up the whole pool when a process dies, ``multiprocessing.Pool`` waits for its result
for ever; a corpus job must go on.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from typing import Any, Generic

from tersely.corpus.executors.attempt import outcome
from tersely.corpus.executors.process import Process, how_it_ended
from tersely.corpus.executors.protocol import Item, Outcome, Result
from tersely.corpus.executors.worker import READY
from tersely.errors import ExecutorError, UsageError
from tersely.fork_server import ensure_server
from tersely.tokenize.batch import thread_count

_STARTS = 3
"""How many processes may be killed in a row before they begin."""

_WAY_OUT = "define it at the top of a module that they can import"
_GUARD = "if it has printed an error of a script, put what that script does under if __name__ == '__main__'"


class LocalExecutor:
    """A worker for each of a number of processes, each with one item at a time.

    Args:
        workers: how many; by default one for each processor that this process may use.
        preload: modules that the fork server imports, for all workers. It counts for the first executor of a
            program, and must not start threads.

    Work is pickled: a function at the top of a module. One of the main script works too; then each worker runs
    that script again (as ``__mp_main__``), which has to guard its own start by ``if __name__ == "__main__"``.
    Workers ignore SIGINT, have no standard input, and cannot start processes of multiprocessing.
    """

    def __init__(self, workers: int | None = None, preload: Sequence[str] = ()) -> None:
        if workers is not None and workers < 1:
            raise UsageError(
                f"workers is {workers}: it must be at least 1, or None for one for each processor"
            )
        self.workers = thread_count(workers)
        self.preload = tuple(preload)
        if self.preload:
            ensure_server(self.preload)  # it imports them while this process does something else

    def run(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """The outcome of each item; see ``Executor.run``."""
        pool: _Pool[Item] = _Pool(self.workers, self.preload, _pickled(work))
        try:
            yield from pool.outcomes(items)
        finally:
            pool.stop()


@dataclass(frozen=True)
class _Task(Generic[Item]):
    item: Item
    payload: bytes


class _Pool(Generic[Item]):
    """The processes: ``busy`` ones with their task, which they get once they have begun, and those that are free."""

    def __init__(self, workers: int, preload: Sequence[str], pickled_work: bytes) -> None:
        self._workers, self._preload, self._pickled_work = workers, preload, pickled_work
        self._busy: dict[Process, _Task[Item]] = {}
        self._free: list[Process] = []
        self._killed_starts = 0

    def outcomes(self, items: Iterable[Item]) -> Iterator[Outcome[Item, Any]]:
        source = iter(items)
        yield from self._hand_out(source)
        while self._busy:
            for process in self._ready():
                heard = self._hear(process)
                if heard is not None:
                    yield heard
                    yield from self._hand_out(source)

    def stop(self) -> None:
        """Kills all processes; they are gone when it returns."""
        processes = [*self._busy, *self._free]
        for process in processes:
            process.kill()
        for process in processes:
            process.end()

    def _hand_out(self, source: Iterator[Item]) -> Iterator[Outcome[Item, Any]]:
        """Takes an item for each worker that is free; the outcomes are those of items that cannot be pickled."""
        while len(self._busy) < self._workers and (taken := list(islice(source, 1))):
            try:
                task = _Task(taken[0], pickle.dumps(taken[0]))
            except Exception as error:
                yield Outcome(taken[0], error=error)
            else:
                self._give(task)

    def _give(self, task: _Task[Item]) -> None:
        while self._free:
            process = self._free.pop()
            if process.is_alive():
                self._busy[process] = task
                process.send(task.payload)
                return
            process.end()
        self._busy[Process(self._pickled_work, self._preload)] = task

    def _ready(self) -> list[Process]:
        """Waits until some of the busy ones have sent something or ended."""
        ready = set(wait([end for process in self._busy for end in (process.connection, process.sentinel)]))
        return [process for process in self._busy if process.connection in ready or process.sentinel in ready]

    def _hear(self, process: Process) -> Outcome[Item, Any] | None:
        """The outcome of the task of ``process``; None if it only began, or was replaced before it did."""
        task, message = self._busy[process], process.receive()
        if not process.has_begun:
            self._begin(process, task, message)
            return None
        if message is not None:
            self._free.append(process)
            del self._busy[process]
            return outcome(task.item, message)
        del self._busy[process]
        return Outcome(task.item, died=how_it_ended(process.end()))

    def _begin(self, process: Process, task: _Task[Item], message: bytes | None) -> None:
        if message == READY:
            self._killed_starts = 0
            process.has_begun = True
            process.send(task.payload)
        elif message is not None:
            raise UsageError(f"the workers cannot load the work ({message.decode()}): {_WAY_OUT}")
        else:
            del self._busy[process]
            code = process.end()
            self._killed_starts += 1
            if code >= 0 or self._killed_starts == _STARTS:
                raise ExecutorError(f"a worker ended before it began ({how_it_ended(code)}): {_GUARD}")
            self._give(task)


def _pickled(work: Callable[..., Any]) -> bytes:
    try:
        return pickle.dumps(work)
    except Exception as error:
        raise UsageError(f"the work cannot be sent to other processes ({error}): {_WAY_OUT}") from error
