"""Running small tasks in processes, against concurrent.futures and multiprocessing.Pool, and what a death costs.

python benchmarks/executors.py
"""

import concurrent.futures
import multiprocessing
import os
import time

from report import arguments, publish

from tersely.corpus.executors import LocalExecutor

WORKERS = 2
ITEMS = 5000
PATIENCE = 5


def negative(item):
    return -item


def deadly(item):
    if item == 10:
        os._exit(1)
    return -item


def executor(work, items):
    return sum(outcome.died == "" for outcome in LocalExecutor(WORKERS).run(work, items))


def futures(work, items):
    context = multiprocessing.get_context("forkserver")
    with concurrent.futures.ProcessPoolExecutor(WORKERS, context) as pool:
        waiting = [pool.submit(work, item) for item in items]
        return sum(future.exception() is None for future in waiting)


def pool(work, items):
    found = 0
    with multiprocessing.get_context("forkserver").Pool(WORKERS) as workers:
        results = workers.imap_unordered(work, items)
        for _ in items:
            try:
                results.next(timeout=PATIENCE)
            except multiprocessing.TimeoutError:
                break
            found += 1
    return found


def seconds(run, work, items):
    started = time.perf_counter()
    assert run(work, items) == len(items)
    return time.perf_counter() - started


def rows():
    for name, run in {"LocalExecutor": executor, "ProcessPoolExecutor": futures, "Pool": pool}.items():
        seconds(run, negative, range(1))  # starts the fork server, which all of them share
        start = min(seconds(run, negative, range(WORKERS)) for _ in range(5))
        many = min(seconds(run, negative, range(ITEMS)) for _ in range(3))
        yield {
            "": name,
            "start, end, 2 items: ms": 1e3 * start,
            "each further item: us": 1e6 * (many - start) / ITEMS,
            "results of 100, one item kills its process": run(deadly, range(100)),
        }


if __name__ == "__main__":
    arguments(__doc__).parse_args()
    publish(
        "executors", list(rows()), f"{WORKERS} processes; a pool gives up after {PATIENCE} s without result"
    )
