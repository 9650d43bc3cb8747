"""Runs a job in child processes that are killed at a chosen write boundary, and goes on with it in others."""

import os
import signal
import sys
import traceback
from pathlib import Path

BOUNDARIES = ("fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")
"""Calls of ``os`` that change what is on disk; a kill comes right before one."""


def contents(folder):
    """The bytes of every file, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def in_child(action, kill_at=None):
    """Runs ``action`` in a fork of this process; its exit code, or -9 if it was killed at the ``kill_at``-th boundary."""
    child = os.fork()
    if child == 0:
        try:
            if kill_at is not None:
                _arm(kill_at)
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _arm(kill_at):
    left = [kill_at]

    def counted(call):
        def wrapper(*arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return wrapper

    for name in BOUNDARIES:
        setattr(os, name, counted(getattr(os, name)))
