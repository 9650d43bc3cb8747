"""Work on a Ray cluster: Ray's core tasks, one for each item; a lost machine costs the items it had.

Files, not Ray's object store, carry the data: an item and its result are small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import Any

from tersely.corpus.executors.attempt import attempt, on_pickled, outcome
from tersely.corpus.executors.protocol import Item, Outcome, Result
from tersely.errors import ExecutorError, UsageError

_CONNECTED_WITHIN = 10.0
"""Seconds within which the head node of a cluster must answer."""

_CANCELLED_WITHIN = 10.0
"""Seconds for which a cluster is given to end what it runs for us."""

_WAY_OUT = "install its modules there, or put them on PYTHONPATH before Ray starts"


class RayExecutor:
    """As many items at a time as the cluster has processors, each on one.

    Args:
        address: of a running cluster (``auto`` for one on this machine); by default that of ``RAY_ADDRESS``, and
            without it a cluster of this machine alone is started for the time of a run.

    A connection that the program already has is used and left open. All nodes need tersely, the modules of the
    work, and the same files under the same paths. ``RAY_AUTH_MODE`` and the like mean what they mean to Ray.

    Ray prints what it has to say about a lost node to standard output.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address

    def run(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """The outcome of each item; see ``Executor.run``."""
        ray = _ray()
        with _connection(ray, self.address or os.environ.get("RAY_ADDRESS", "local")):
            yield from _outcomes(ray, _remote(ray, work), items)


def _outcomes(ray: Any, remote: Any, items: Iterable[Item]) -> Generator[Outcome[Item, Any], None, None]:
    source = iter(items)
    # Waited for as Python's futures: within ray.wait, the exit code of a signal handler's SystemExit gets lost.
    running: dict[Future[bytes], tuple[Any, Item]] = {}
    try:
        while True:
            while len(running) < _processors(ray) and (taken := list(islice(source, 1))):
                try:
                    payload = ray.cloudpickle.dumps(taken[0])
                except Exception as error:
                    yield Outcome(taken[0], error=error)
                else:
                    reference = remote.remote(payload)
                    running[reference.future()] = reference, taken[0]
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                _, item = running.pop(future)
                yield _outcome(ray, item, future)
    finally:
        for reference, _ in running.values():
            ray.cancel(reference, force=True)
        wait(running, _CANCELLED_WITHIN)


def _processors(ray: Any) -> int:
    """How many the cluster has now; nodes come and go."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))


def _outcome(ray: Any, item: Item, future: Future[bytes]) -> Outcome[Item, Any]:
    lost = ray.exceptions
    try:
        return outcome(item, future.result())
    except lost.RayTaskError as error:  # not from the work: its worker could not so much as load it
        reason = str(error).strip().splitlines()[-1]
        return Outcome(item, error=ExecutorError(f"a node cannot load the work ({reason}): {_WAY_OUT}"))
    except (lost.NodeDiedError, lost.LocalRayletDiedError, lost.ObjectLostError):
        return Outcome(item, died="its node was lost")
    except lost.WorkerCrashedError:
        return Outcome(item, died="its process ended")
    except lost.RayError as error:
        return Outcome(item, died=f"{type(error).__name__}: {error}".splitlines()[0])


def _remote(ray: Any, work: Callable[..., Any]) -> Any:
    """``work`` as a task of Ray, which takes and gives bytes and is never tried again by Ray."""
    dumps = ray.cloudpickle.dumps
    try:
        dumps(work)
    except Exception as error:
        raise UsageError(
            f"the work cannot be sent to other machines ({error}): use a plain function"
        ) from error

    def task(payload: bytes) -> bytes:
        return attempt(on_pickled(work), payload, dumps)

    return ray.remote(max_retries=0)(task)


@contextlib.contextmanager
def _connection(ray: Any, address: str) -> Generator[None]:
    """A connection to the cluster, closed at the end if it is ours, as is the cluster, if it was started here."""
    if ray.is_initialized():
        yield
        return
    _check_address(address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="error")
    except Exception as error:
        raise ExecutorError(f"no Ray cluster at {address}: {error}") from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own there
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raises ExecutorError if nothing listens at ``host:port``, where Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # a word such as "local"
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECTED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ExecutorError(
            f"no Ray cluster at {address}: {error}; see 'ray status' on its head node"
        ) from error


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError("Ray is not installed: pip install 'tersely[ray]'") from error
    return ray
