"""The side of a worker process: reads items from its pipe until that is closed, and dies with its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait

from tersely.corpus.executors.attempt import attempt, on_pickled

READY = b""
"""The first message of a worker that can begin; any other says, in UTF-8, why it cannot."""


def serve(connection: Connection, pickled_work: bytes) -> None:
    """Answers each pickled item with what ``attempt`` makes of it, until the parent closes the connection.

    SIGINT is left to the parent, which gets it too from a terminal.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    try:
        work = on_pickled(pickle.loads(pickled_work))
    except Exception as error:
        connection.send_bytes(f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        return
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has closed its end
        connection.send_bytes(READY)
        while True:
            connection.send_bytes(attempt(work, connection.recv_bytes()))


def _die_with_parent() -> None:
    """Ends this process when its parent ends in any way, kill -9 included.

    The parent holds one end of a pipe, which the kernel closes when it ends. A thread here waits for that; on Linux
    the kernel also sends SIGKILL then, which needs no turn of the interpreter: work may be in compiled code that
    never gives one.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    pipe = parent.sentinel
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        wait([pipe])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
