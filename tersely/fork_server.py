"""The fork server of this program: a process that has imported what workers need, and becomes one in milliseconds.

It stands on the ground floor so that a command can start it first, before it loads the same modules for itself.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker

WORKER = "tersely.corpus.executors.worker"
JOB = "tersely.corpus.job.warm"
"""The module that loads what the tasks of a job need."""


def ensure_server(preload: Sequence[str]) -> None:
    """Starts the fork server, if it does not run, with SIGINT blocked, as its children inherit it.

    So a Ctrl-C at a terminal, which goes to all processes, is left to this one at any moment of their lives.

    Args:
        preload: modules that it imports, for all workers; of the call that starts it.
    """
    forkserver.set_forkserver_preload([WORKER, *preload])
    resource_tracker.ensure_running()  # first, because starting it unblocks SIGINT
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
