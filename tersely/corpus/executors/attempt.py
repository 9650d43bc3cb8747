"""The one call of ``work`` that a worker makes: whatever comes of it is made bytes, and an outcome from those."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from tersely.corpus.executors.protocol import Item, Outcome, Result
from tersely.errors import ExecutorError


def attempt(
    work: Callable[[bytes], Any], payload: bytes, dumps: Callable[[Any], bytes] = pickle.dumps
) -> bytes:
    """Calls ``work(payload)``; the pickled pair of its result and ``None``, or of ``None`` and what it raised.

    Everything raised is caught, for an exception of compiled code (pyo3's PanicException) need not be an Exception,
    and an ``exit()`` in ``work`` must not end the worker. A result that cannot be pickled is an error, too.
    """
    try:
        return dumps((work(payload), None))
    except BaseException as error:
        return dumps((None, _portable(error, dumps)))


def outcome(item: Item, message: bytes) -> Outcome[Item, Any]:
    """The outcome that ``attempt`` made bytes of; one with an error, if this process cannot read them."""
    try:
        result, error = pickle.loads(message)
    except Exception as unreadable:
        return Outcome(item, error=unreadable)
    return Outcome(item, result, error)


def on_pickled(work: Callable[[Item], Result]) -> Callable[[bytes], Result]:
    """``work`` for pickled items, so that an item which cannot be read is an error of that item."""
    return lambda payload: work(pickle.loads(payload))


def _portable(error: BaseException, dumps: Callable[[Any], bytes]) -> BaseException:
    """``error`` with its traceback as a note, if another process can read it, else an ExecutorError with its text."""
    place = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"\nIn the worker:\n{place}")
        pickle.loads(dumps(error))  # many can be written but not read: their __init__ wants other arguments
    except BaseException:
        text = "".join(traceback.format_exception_only(error.with_traceback(None))).strip()
        error = ExecutorError(text.splitlines()[0])
        error.add_note(f"\nIn the worker:\n{place}")
    return error
