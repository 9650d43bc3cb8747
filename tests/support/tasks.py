"""Work for executors: importable by worker processes, so that it can be sent to them by name."""

import ctypes
import os
import re
import signal
import sys
import time
from pathlib import Path


def square(number):
    return number * number


def length(raw):
    return len(raw)


class Misbehaviour(BaseException):
    """Not an Exception, as pyo3's PanicException."""


class Unreadable(Exception):
    """Can be pickled, but its pickle cannot be read."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def _unimportable():
    raise type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})("index out of bounds")


def _raise(error):
    raise error


DEEDS = {
    "segfault": lambda: ctypes.string_at(0),
    "exit 3": lambda: os._exit(3),
    "exit 0": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "wait": lambda: time.sleep(600),
    "hold the interpreter": lambda: re.match(r"(a+)+$", "a" * 60 + "b"),
    "value error": lambda: _raise(ValueError("no such value")),
    "base": lambda: _raise(Misbehaviour("badly")),
    "unreadable": lambda: _raise(Unreadable("this", "that")),
    "panic": _unimportable,
    "sys.exit": lambda: sys.exit("enough"),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    "lambda": lambda: lambda: 0,
    "deep": lambda: _nested(100_000),
    "large": lambda: b"x" * 10_000_000,
    "stdin": lambda: sys.stdin.read(),
    "pid": os.getpid,
}


def _nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def do(deed):
    """A number is squared; a name is done."""
    return DEEDS[deed]() if deed in DEEDS else square(deed)


def touch_and_wait(path):
    """Says with a file that it has begun, then waits for a file of the same name with .go."""
    path = Path(path)
    path.write_text(str(os.getpid()))
    end = time.monotonic() + 60
    while not path.with_suffix(".go").exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    return path.name
