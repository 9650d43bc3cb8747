"""Runs tasks, and when a process dies at one finds out which record kills it.

A task whose process died (a crash in native code, the system's memory killer, a lost machine) is tried once more. If it
dies again, halves of the batch that it had in hand are encoded in processes of their own, until one record is left: that
one is put into quarantine, and the task goes on without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from tersely.corpus.encode import encode_batch
from tersely.corpus.executors import Executor, Outcome
from tersely.corpus.job.done import At, Done
from tersely.corpus.job.task import Job, TaskInput, run_task
from tersely.errors import UnfinishedError


def run_tasks(
    job: Job,
    tasks: Sequence[TaskInput],
    executor: Executor,
    again: bool = True,
) -> None:
    """Runs all tasks to their end; ``again`` says whether their inputs can be read a second time.

    Raises:
        UnfinishedError: a task's process dies again and again, and no single record is to blame.
        TerselyError, OSError: what stopped a task; the others may be half done, and all can be resumed.
    """
    deaths: Counter[int] = Counter()
    waiting = list(tasks)
    while waiting:
        died: list[tuple[TaskInput, str]] = []
        with closing(executor.run(partial(run_task, job), waiting)) as outcomes:
            for outcome in outcomes:
                if how := _death(outcome):
                    died.append((outcome.item, how))
                elif outcome.error is not None:
                    raise outcome.error
        if died and not again:
            raise UnfinishedError(
                f"the job ended early ({died[0][1]}), and standard input cannot be read twice: run the same command again"
            )
        for task, how in died:
            deaths[task.number] += 1
            if deaths[task.number] > 1:
                _blame(job, task, executor, how)
        waiting = [task for task, _ in died]


def _death(outcome: Outcome[Any, Any]) -> str:
    """How the process of a task died, "" if it did not; one out of memory may as well have been killed."""
    return outcome.died or ("out of memory" if isinstance(outcome.error, MemoryError) else "")


@dataclass(frozen=True)
class _Probe:
    """The texts ``first`` to ``last`` of a batch of a part of a task."""

    task: TaskInput
    part: int
    batch: int
    first: int
    last: int


def _probe(job: Job, probe: _Probe) -> int:
    """Encodes these texts and throws the ids away; returns how many the batch has."""
    part, source = probe.task.parts[probe.part]
    batches = islice(source.batches(part.span), probe.batch, None)
    batch = next(batches)
    if probe.first == probe.last:
        next(batches, None)  # nothing to encode, so it was the reading, maybe of what comes next
    poison = Done.of(job.place, probe.task.number).poison.get((probe.part, probe.batch), {})
    outside = set(range(len(batch.texts))) - set(range(probe.first, probe.last))
    encode_batch(batch.without(outside | set(poison)), job.tokenizer(), job.settings.bos, job.settings.eos)
    return len(batch.texts)


def _blame(job: Job, task: TaskInput, executor: Executor, how: str) -> None:
    """Writes into the task's journal what it has to do without."""
    at = At.read(job.place.position(task.number))
    last = min(at.part, len(task.parts) - 1)
    place = task.parts[last][1].name
    journal = job.place.journal(task.number)

    def run(first: int, last: int) -> tuple[int, str]:
        probe = _Probe(task, at.part, at.batch, first, last)
        (outcome,) = executor.run(partial(_probe, job), [probe])
        died = _death(outcome)
        if outcome.error is not None and not died:
            raise outcome.error
        return outcome.result or 0, died

    size, died = run(0, 0) if at.part == last else (0, "")
    if died:
        journal.append({"leave_out": [at.part, f"reading it ended the process ({died})"]})
        return
    first, last = 0, size
    while last - first > 1:
        middle = (first + last) // 2
        if run(first, middle)[1]:
            last = middle
        else:
            first = middle
    died = run(first, last)[1] if size else ""
    if not died:
        raise UnfinishedError(
            f"the process that read {place} died twice ({how}), and not again on any single record: it may lack memory; "
            "run the same command again to go on, with fewer --workers"
        )
    journal.append({"poison": [at.part, at.batch, first, f"encoding it ended the process ({died})"]})
