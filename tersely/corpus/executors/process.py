"""The parent's side of a worker process: started by the fork server, heard, ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import ModuleType

from tersely.corpus.executors import worker
from tersely.errors import ExecutorError
from tersely.fork_server import ensure_server

_LAST_WORDS = 5.0
"""Seconds in which a process that has closed its pipe must end."""

_main_lock = threading.Lock()


class Process:
    """A process that serves ``pickled_work``; it has begun once its first message is there.

    Raises:
        ExecutorError: the system gives no process.
    """

    def __init__(self, pickled_work: bytes, preload: Sequence[str]) -> None:
        self.has_begun = False
        try:
            # Handlers of signals run in the main thread alone, so that no Ctrl-C leaves a child half started.
            with ThreadPoolExecutor(1) as thread:
                self.connection, self._process = thread.submit(_started, pickled_work, preload).result()
        except (OSError, EOFError) as error:
            raise ExecutorError(
                f"a worker process cannot be started: {error!r}; use fewer workers"
            ) from error
        self.sentinel = self._process.sentinel

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    def send(self, message: bytes) -> None:
        """Hands it a message; nothing happens if it has just died, for that is found by ``receive``."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(message)

    def receive(self) -> bytes | None:
        """What it has sent, once ``connection`` or ``sentinel`` is ready; None if it ended before it sent all."""
        try:
            return self.connection.recv_bytes() if self.connection.poll() else None
        except (OSError, EOFError):
            return None

    def kill(self) -> None:
        """Sends SIGKILL, if it still runs."""
        if self._process.is_alive():
            self._process.kill()

    def end(self) -> int:
        """Waits for its end, forces it if need be, and gives all resources back; the exit code, minus a signal."""
        self._process.join(_LAST_WORDS)
        self.kill()
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        self._process.close()
        self.connection.close()
        return code


def _started(pickled_work: bytes, preload: Sequence[str]) -> tuple[Connection, ForkServerProcess]:
    """A process that serves the work, and this side of its pipe."""
    ensure_server(preload)
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=worker.serve, args=(theirs, pickled_work), daemon=True)
    # A function of the main script is pickled by this name, and only then do workers need that script.
    needs_main = b"__main__" in pickled_work
    with theirs, contextlib.nullcontext() if needs_main else _hidden_main():
        process.start()
    return ours, process


def how_it_ended(code: int) -> str:
    """An exit code in words: ``killed by SIGKILL``, ``exit code 3``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


@contextlib.contextmanager
def _hidden_main() -> Generator[None]:
    """Keeps multiprocessing from running the main script again in each child.

    A script need not be guarded then, and a command line is not loaded for nothing.
    """
    with _main_lock:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
