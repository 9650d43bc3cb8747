"""Work in this process, one item after another: for a debugger, for tests, and as the plain twin of the others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable

from tersely.corpus.executors.protocol import Item, Outcome, Result


class SerialExecutor:
    """Calls ``work`` here; what kills a process kills this one."""

    def run(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """The outcome of each item, in their order; see ``Executor.run``."""
        for item in items:
            try:
                done = Outcome(item, work(item))
            except (KeyboardInterrupt, SystemExit):
                raise  # these are for this process, not from the work
            except BaseException as error:
                done = Outcome[Item, Result](item, error=error)
            yield done
