"""Rows of several prepared folders, mixed by weight.

    weights 0.5 0.3 0.2       step    0 1 2 3 4 5 6 7 8 9
                              folder  a b c a b a a c b a        after any number of steps each has its share, but for
                                                                 less than one row

Which folder a step takes its row from is not drawn, but computed from how many rows each has given, by the rule of
Tijdeman, "The chairman assignment problem" (Discrete Mathematics 32, 1980), so that shares hold over every stretch of a
run, where drawing would be off by the square root of its length. It is the same for all ranks and workers, so that no
rank runs out of rows before the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from tersely.errors import FingerprintError, PackError, UsageError
from tersely.pack.loader import PackedDataset
from tersely.pack.order import Order
from tersely.pack.position import Position

MIXTURE_VERSION = 1

_AHEAD = 64
"""Rows of a folder whose place in its plan is looked up at once."""


def next_in_turn(weights: Sequence[float], counts: Sequence[int]) -> int:
    """Which of several takes the next turn, so that after ``n`` turns each has had ``n`` times its weight, nearly.

    Args:
        weights: shares, which sum to 1.
        counts: turns that each has had, all by this rule.

    Returns:
        The one that would soonest fall behind, of those that are due. With ``k`` of them the count of none is ever off
        by more than ``1 - 1 / (2 * k - 2)``.
    """
    if len(weights) == 1:
        return 0
    turn, slack = sum(counts) + 1, 1 / (2 * len(weights) - 2)
    due = [weight * turn - count for weight, count in zip(weights, counts, strict=True)]
    least = min(slack, max(due))  # one is due, but for rounding
    return min(
        (one for one in range(len(due)) if due[one] >= least),
        key=lambda one: (1 - slack - due[one]) / weights[one],
    )


@dataclass(frozen=True)
class _Stand:
    """Where a reader of the mixture stands: before ``step``, those of ``worker`` of ``workers`` since ``first`` behind
    it; with the rows that each folder has given, and where each stands, for all ranks together.
    """

    epoch: int
    positions: tuple[Position, ...]
    counts: tuple[int, ...]
    first: int = 0
    worker: int = 0
    workers: int = 1

    @property
    def step(self) -> int:
        return sum(self.counts)

    @property
    def is_mine(self) -> bool:
        """Whether the next step is that of this worker."""
        return (self.step - self.first) % self.workers == self.worker


class MixedDataset(IterableDataset[dict[str, np.ndarray]]):
    """The rows of several ``PackedDataset``, each with its share of them, and a state that resumes exactly.

    Args:
        datasets: all made with the same tokenizer, ``rank`` and ``world_size``. Each keeps its seed, and so its order.
        weights: the share of each, in rows (so in tokens, where all have the same capacity); they need not sum to 1.
        repeat: a folder whose rows are used up begins its next epoch, and the mixture never ends. If false, it ends
            where one of them has no row left.

    Whatever the number of steps, each folder has given its share of them but for less than one row, on every rank. At a
    step all ranks have rows of the same folder; they are balanced, if its dataset is. With a batch size of one row the
    order does not depend on the number of workers.

    Raises:
        UsageError: weights do not fit the datasets, or these do not fit each other.
        FingerprintError: they have ids of different tokenizers.
    """

    def __init__(
        self, datasets: Sequence[PackedDataset], weights: Sequence[float], *, repeat: bool = True
    ) -> None:
        if not datasets or len(datasets) != len(weights):
            raise UsageError(
                f"there are {len(datasets)} datasets and {len(weights)} weights: give one for each"
            )
        if not all(0 < weight < float("inf") for weight in weights):
            raise UsageError(f"the weights {list(weights)} are not all positive: leave out what has no share")
        if len({(dataset.rank, dataset.world_size) for dataset in datasets}) > 1:
            raise UsageError("the datasets are of different ranks: give all the same rank and world_size")
        tokenizers = {dataset.folder.manifest.tokenizer.fingerprint for dataset in datasets}
        if len(tokenizers) > 1:
            raise FingerprintError(
                "the folders were made with different tokenizers: prepare them with the same one"
            )
        self.datasets, self.repeat = list(datasets), repeat
        self.weights = [float(weight) / float(sum(weights)) for weight in weights]
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that live on
        self._stand = self._beginning(0)
        self._resume: _Stand | None = None

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch in which all folders begin; a state loaded before for the same one stays in force."""
        self._epoch.fill_(epoch)

    def _beginning(self, epoch: int) -> _Stand:
        return _Stand(
            epoch, tuple(each.beginning(epoch) for each in self.datasets), (0,) * len(self.datasets)
        )

    def _standing(self) -> _Stand:
        epoch, pending = int(self._epoch), self._resume
        return pending if pending and pending.epoch == epoch else self._beginning(epoch)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """The rows from the beginning of the epoch, or from where a state loaded just before stands."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        start, self._resume = self._standing(), None
        if start.workers == 1:
            start = replace(start, first=start.step, worker=worker, workers=workers)
        elif (start.worker, start.workers) != (worker, workers):
            raise PackError(
                f"the state was saved by worker {start.worker} of {start.workers}, this is worker {worker} of {workers}: "
                "use the same num_workers, or a state saved in the main process (num_workers=0)"
            )
        self._stand = start
        return self._tracked(start)

    def _tracked(self, start: _Stand) -> Iterator[dict[str, np.ndarray]]:
        for stand, row in self._rows_from(start):
            self._stand = stand  # first: the row counts even if the caller never comes back for another
            yield row

    def _rows_from(self, start: _Stand) -> Iterator[tuple[_Stand, dict[str, np.ndarray]]]:
        parts = zip(self.datasets, start.positions, strict=True)
        readers = [_Reader(dataset, position) for dataset, position in parts]
        counts = list(start.counts)
        stand = start
        while True:
            chosen = next_in_turn(self.weights, counts)
            row = readers[chosen].next_row(self.repeat)
            if row is None:
                return
            counts[chosen] += 1
            mine = stand.is_mine
            positions = tuple(reader.position for reader in readers)
            stand = replace(stand, positions=positions, counts=tuple(counts))
            if mine:
                yield stand, self.datasets[chosen].row(row)

    def state_dict(self) -> dict[str, Any]:
        """Where the last iterator of this object stands, JSON-able and of constant size.

        As with ``PackedDataset``, it knows of rows read in its own process. One saved there fits any number of ranks
        and workers later on; one that ``StatefulDataLoader`` asked of workers fits as many of both.
        """
        read = self._stand.epoch == int(self._epoch) and self._resume is None
        stand = self._stand if read else self._standing()
        parts = zip(self.datasets, stand.positions, strict=True)
        return {
            "version": MIXTURE_VERSION,
            "weights": self.weights,
            "epoch": stand.epoch,
            "counts": list(stand.counts),
            "first": stand.first,
            "worker": stand.worker,
            "workers": stand.workers,
            "datasets": [dataset.state_at(position) for dataset, position in parts],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the mixture stood that gave ``state``.

        Raises:
            PackError: the state is of other folders, plans, seeds or weights, or of workers of another number of ranks.
        """
        stand = self._stand_of(state)
        if int(self._epoch) > stand.epoch and not self.repeat and self._is_over(stand):
            return  # that epoch is over, and set_epoch has gone on already (torchdata loads states late)
        self._resume = stand
        self._epoch.fill_(stand.epoch)

    def _stand_of(self, state: Mapping[str, Any]) -> _Stand:
        if state.get("version") != MIXTURE_VERSION or "datasets" not in state:
            raise PackError(
                f"this is no state of MixedDataset, or one of version {state.get('version')}: "
                f"this tersely reads {MIXTURE_VERSION}"
            )
        if state["weights"] != self.weights or len(state["datasets"]) != len(self.datasets):
            raise PackError(
                f"the state is of weights {state['weights']}, not {self.weights}: use the same mixture"
            )
        ranks = {part["world_size"] for part in state["datasets"]}
        if state["workers"] > 1 and ranks != {self.datasets[0].world_size}:
            raise PackError(
                f"the state was saved inside a worker of {max(ranks)} ranks, there are {self.datasets[0].world_size} now: "
                "resume with as many, or save it in the main process"
            )
        parts = zip(self.datasets, state["datasets"], strict=True)
        return _Stand(
            epoch=int(state["epoch"]),
            positions=tuple(dataset.position_of(part) for dataset, part in parts),
            counts=tuple(int(count) for count in state["counts"]),
            first=int(state["first"]),
            worker=int(state["worker"]),
            workers=int(state["workers"]),
        )

    def _is_over(self, stand: _Stand) -> bool:
        chosen = next_in_turn(self.weights, stand.counts)
        return _Reader(self.datasets[chosen], stand.positions[chosen]).next_row(repeat=False) is None


class _Reader:
    """Gives the rows of one folder for a rank, epoch after epoch; what others of its rank do with them is their thing."""

    def __init__(self, dataset: PackedDataset, position: Position) -> None:
        if not len(dataset):
            raise PackError(f"{dataset.folder.path} has no rows: leave it out of the mixture")
        self._dataset = dataset
        self._start(position)

    def _start(self, position: Position) -> None:
        self.position = position
        self._order: Order = self._dataset.order(position)
        self._rows: list[int] = []

    def next_row(self, repeat: bool) -> int | None:
        """The row of the plan that comes next; None if the epoch is over and is not to be followed by another."""
        if not self._rows and not self._look_ahead():
            if not repeat:
                return None
            self._start(self._dataset.beginning(self.position.epoch + 1))
            self._look_ahead()
        self.position = self.position.after(1, self._dataset.world_size)
        return self._rows.pop()

    def _look_ahead(self) -> bool:
        dataset, ahead = self._dataset, np.arange(_AHEAD)
        places = self.position.next_row(dataset.rank, dataset.world_size, ahead)
        places = places[places < dataset.end(self.position)]
        self._rows = self._order.at(places % len(dataset.rows))[::-1].tolist() if len(places) else []
        return bool(self._rows)
