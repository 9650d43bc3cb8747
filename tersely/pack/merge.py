"""One loader state of those of all ranks and workers, which fits any number of ranks and workers.

Each worker knows how many rows it has given. Put together, that says which rows of the epoch are behind, also where
workers were not equally far, or gave batches of several rows and so ran ahead of each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tersely.errors import PackError
from tersely.pack.position import GivenFrom, Position

_OF_ALL = ("version", "plan", "rows", "seed", "world_size", "epoch", "levels")
_SIGN = {*_OF_ALL, "rank", "base", "worker", "workers", "done"}


def merge_states(states: Any) -> dict[str, Any]:
    """The state of a run, for ``PackedDataset.load_state_dict`` with any number of ranks and workers.

    The rows that come next are those that no rank has had yet, in the order that they had, dealt out anew. None is
    lost, and none comes again (but for the first rows of an epoch, which fill up its last step).

    Args:
        states: those of all ranks, in a list or whatever they are kept in: of ``PackedDataset``, or of torchdata's
            ``StatefulDataLoader`` with or without workers, whole checkpoints included. All are of one moment of one
            run, though not all ranks need be equally far.

    Raises:
        PackError: one of a rank or worker is missing or there twice, they are of different runs, or the loader did not
            take a state after every batch.
    """
    found = list(_states_in(states))
    if not found:
        raise PackError(
            "there is no state of a PackedDataset in what is to be merged: give those of all ranks"
        )
    common = {name: found[0][name] for name in _OF_ALL}
    for state in found:
        if differing := [name for name in _OF_ALL if state[name] != common[name]]:
            raise PackError(
                f"the states to be merged differ in {', '.join(differing)}: give those of one moment"
            )
    start, given = _given(found, int(common["world_size"]))
    given = given[given < int(common["rows"])]
    levels = Position.from_json(found[0]).levels
    if len(given):
        breaks = np.flatnonzero(np.diff(given) > 1) + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(given, breaks)]
        levels = (*levels, GivenFrom(start, tuple(runs)))
    merged = Position(int(common["epoch"]), base=start + len(given), levels=levels)
    return common | {"rank": 0} | merged.to_json()


def _states_in(content: Any) -> Iterator[Mapping[str, Any]]:
    """All states of a PackedDataset, wherever they are kept."""
    if isinstance(content, Mapping):
        if content.keys() >= _SIGN:
            yield content
            return
        if {"weights", "datasets"} <= content.keys():
            raise PackError(
                "states of a MixedDataset cannot be merged: save it in the main process (num_workers=0)"
            )
        if content.get("_steps_since_snapshot"):
            raise PackError(
                "the state of a StatefulDataLoader is some batches old: make it with snapshot_every_n_steps=1"
            )
        content = content.values()
    elif not isinstance(content, list | tuple):
        return
    for inner in content:
        yield from _states_in(inner)


def _given(states: list[Mapping[str, Any]], world_size: int) -> tuple[int, np.ndarray[Any, Any]]:
    """The position before which all rows have been given, and those from there on that have been, ascending."""
    readers: dict[int, dict[int, Position]] = defaultdict(dict)
    for state in states:
        position, rank = Position.from_json(state), int(state["rank"])
        if position.worker in readers[rank]:
            raise PackError(
                f"there are two states of worker {position.worker} of rank {rank}: give each once"
            )
        readers[rank][position.worker] = position
    base = min(position.base for workers in readers.values() for position in workers.values())
    ranks = [_turns(rank, readers.get(rank, {}), base, world_size) for rank in range(world_size)]
    # Turn t of a rank is position base + t * world_size + rank. The first turns have all been had.
    had = min(min(turns) for turns in ranks)
    given = [
        base + np.arange(first, stop, step) * world_size + rank
        for rank, turns in enumerate(ranks)
        for first, stop, step in _after(turns, had)
    ]
    return base + had * world_size, np.sort(np.concatenate([np.empty(0, np.int64), *given]))


def _turns(rank: int, workers: Mapping[int, Position], base: int, world_size: int) -> list[int]:
    """For each worker of a rank the first of its turns from ``base`` on that it has not had."""
    count = next(iter(workers.values())).workers if workers else 1
    if len(workers) != count or {position.workers for position in workers.values()} != {count}:
        raise PackError(
            f"of rank {rank} there are states of {len(workers)} of {count} workers: give those of all ranks and workers"
        )
    ahead = {position.base - base for position in workers.values()}
    if len(ahead) > 1 or min(ahead) % world_size:
        raise PackError(
            f"the states of rank {rank} are not of the run that the others are of: give those of one moment"
        )
    return [min(ahead) // world_size + workers[worker].done * count + worker for worker in range(count)]


def _after(turns: Sequence[int], had: int) -> Iterator[tuple[int, int, int]]:
    """The turns from ``had`` on that the workers of a rank have had, as ranges with a step."""
    for turn in turns:
        yield had + (turn - had) % len(turns), turn, len(turns)
