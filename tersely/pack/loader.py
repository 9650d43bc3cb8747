"""Packed rows for a training loop, planned on the fly from a prepared folder.

Planning a million documents takes a hundredth of a second, so the folder's own rows are only a default: every
``PackedDataset`` puts the stored documents into rows of the capacity, strategy and seed that the run wants.

    plan -> bins shuffled by (seed, epoch) -> every world_size-th bin to this rank -> every workers-th to this worker
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from tersely.errors import FingerprintError, PackError, UsageError, choose
from tersely.pack.pieces import Overflow
from tersely.pack.plan import PackPlan, Strategy, plan
from tersely.ragged import Ragged
from tersely.shards import ShardFolder
from tersely.tokenize import Tokenizer

if TYPE_CHECKING:
    import datasets

_STATE_VERSION = 1


@dataclass(frozen=True)
class _Position:
    """Where a reader stands: ``base`` rows of the epoch are behind all ranks together, and after them ``done`` rows
    behind this ``worker`` of ``workers``.
    """

    epoch: int
    base: int = 0
    worker: int = 0
    workers: int = 1
    done: int = 0


class PackedDataset(IterableDataset[dict[str, np.ndarray]]):
    """Rows of packed documents, in an order that seed and epoch decide, with a state that resumes exactly.

    Args:
        path: a folder made by ``tersely prepare``.
        capacity: tokens in a row; by default that of the folder. 0 gives a row for each document.
        strategy: how documents are put into rows; by default that of the folder.
        seed: decides the order of rows (and the bins of ``mix``).
        rank: which of the ``world_size`` shares of the rows to give; leave both out under HF ``Trainer``, which shares
            rows out itself (with several processes, give it ``accelerator_config={"dispatch_batches": False}``,
            because by default it joins the batches of all of them, which only padded ones can be).
        world_size: the number of shares. All have equally many rows; if the rows do not divide evenly, the first
            few of the epoch come twice.
        overflow: what happens to a document longer than a row; by default as in the folder.
        tokenizer: if given, the folder must have been made with it.

    Each row is a mapping of numpy arrays: ``input_ids`` (the stored dtype) and ``seq_lengths`` (int32, the token
    counts of its documents). ``PackedCollator`` turns rows into a batch.

    Call ``set_epoch`` before each epoch; the order of an epoch depends on seed and epoch only, and with a batch size
    of one row not on the number of workers either.

    Raises:
        ShardError: the folder is unfinished or damaged.
        FingerprintError: it was made with another tokenizer than the one given.
    """

    def __init__(
        self,
        path: str | Path,
        capacity: int | None = None,
        strategy: Strategy | str | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        *,
        overflow: Overflow | str | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank {rank} is not one of {world_size} ranks")
        if seed < 0:
            raise UsageError(f"seed {seed} is negative")
        self.folder = ShardFolder(path)
        stored = self.folder.manifest.tokenizer
        if tokenizer is not None and tokenizer.fingerprint != stored.fingerprint:
            raise FingerprintError(
                f"{path} was made with the tokenizer {stored.spec} ({stored.fingerprint[:12]}), not with the one given "
                f"({tokenizer.fingerprint[:12]}): prepare the corpus again, or load {Path(path) / 'tokenizer'}"
            )
        packing = self.folder.manifest.packing
        self.capacity = packing.capacity if capacity is None else capacity
        self.strategy: Strategy = choose(Strategy, strategy or packing.strategy)
        self.overflow: Overflow = choose(Overflow, overflow or packing.overflow)
        self.seed, self.rank, self.world_size = operator.index(seed), rank, world_size
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that live on
        self._position = _Position(0)
        self._resume: _Position | None = None

    @cached_property
    def plan(self) -> PackPlan:
        """The rows, before shuffling."""
        lengths = self.folder.document_lengths
        if self.capacity:
            return plan(lengths, self.capacity, self.strategy, self.overflow, self.seed)
        each = Ragged(np.arange(len(lengths)), np.arange(len(lengths) + 1))
        return PackPlan(
            lengths, each, max(1, int(lengths.max(initial=0))), Strategy.NEXT_FIT, Overflow.SPLIT, self.seed
        )

    def __len__(self) -> int:
        """Rows of one epoch for this rank, those already behind it included."""
        return -(-len(self.plan.bins) // self.world_size)

    @property
    def epoch(self) -> int:
        """The epoch whose order is given."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Selects the order of ``epoch``, also for worker processes that are kept; to be called before each epoch.

        A state loaded before for the same epoch stays in force.
        """
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """The rows of the epoch from its beginning, or from where a state loaded just before stands."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        start, self._resume = self._standing(), None
        if start.workers > 1 and (start.worker, start.workers) != (worker, workers):
            raise PackError(
                f"the state was saved by worker {start.worker} of {start.workers}, this is worker {worker} of {workers}: "
                "use the same num_workers, or a state saved in the main process (num_workers=0)"
            )
        self._position = replace(start, worker=worker, workers=workers)
        return self._tracked(self._position)

    def _tracked(self, start: _Position) -> Iterator[dict[str, np.ndarray]]:
        for position, row in self.rows_from(start):
            self._position = position  # first: the row counts even if the caller never comes back for another
            yield row

    def rows_from(self, start: _Position) -> Iterator[tuple[_Position, dict[str, np.ndarray]]]:
        """Each row from ``start`` on, and where a reader stands that has it; changes nothing."""
        bins = len(self.plan.bins)
        order = np.random.default_rng((self.seed, start.epoch)).permutation(bins)
        done = start.done
        while (row := self._next_row(replace(start, done=done))) is not None:
            done += 1
            here = replace(start, done=done)
            if start.workers == 1:
                here = replace(start, base=start.base + done * self.world_size, done=0)
            yield here, self.row(int(order[row % bins]))

    def _next_row(self, at: _Position) -> int | None:
        """The row of the epoch's order that a reader at ``at`` gets next, None at the end of the epoch.

        Every rank gets equally many rows from the base on: the last ones are the first of the epoch again.
        """
        left = max(0, len(self.plan.bins) - at.base)
        end = at.base + -(-left // self.world_size) * self.world_size
        row = at.base + (at.done * at.workers + at.worker) * self.world_size + self.rank
        return row if row < end else None

    def _standing(self) -> _Position:
        """Where the next reader of this epoch starts."""
        pending = self._resume
        return pending if pending and pending.epoch == self.epoch else _Position(self.epoch)

    def row(self, index: int) -> dict[str, np.ndarray]:
        """Row ``index`` of the plan."""
        pieces, chosen = self.plan.pieces, self.plan.bins[index]
        parts = [
            self.folder.tokens(int(pieces.document[piece]), int(pieces.start[piece]), int(pieces.stop[piece]))
            for piece in chosen
        ]
        lengths = np.array([len(part) for part in parts], np.int32)
        return {"input_ids": np.concatenate(parts), "seq_lengths": lengths}

    def to_hf(self) -> datasets.IterableDataset:
        """The same rows as a ``datasets.IterableDataset``, for trainers that take nothing else, such as TRL's.

        ``set_epoch`` of the result is that of this dataset (of the result itself: what ``map`` makes of it loses it).
        ``datasets`` reads it in one worker process at most.
        """
        import datasets

        rows = datasets.IterableDataset.from_generator(_numbers, gen_kwargs={"packed": self})
        rows.set_epoch = functools.partial(_set_both_epochs, self, rows.set_epoch)
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Where the last iterator of this object stands, JSON-able and of constant size.

        It knows of rows read in its own process. With worker processes use ``torchdata``'s ``StatefulDataLoader``,
        which asks each of them; such a state fits the same number of workers and ranks. A state saved where rows
        are read in the main process fits any number of ranks and workers later on; rows already seen stay behind.
        """
        read = self._position.epoch == self.epoch and self._resume is None
        position = self._position if read else self._standing()
        return {
            "version": _STATE_VERSION,
            "plan": self.plan.fingerprint,
            "seed": self.seed,
            "world_size": self.world_size,
            **asdict(position),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the dataset that gave ``state`` stood.

        Raises:
            PackError: the state is of another corpus, capacity, strategy or seed, so its rows are not these.
        """
        if state.get("version") != _STATE_VERSION:
            raise PackError(
                f"the loader state is of version {state.get('version')}, this tersely reads {_STATE_VERSION}"
            )
        missing = {"plan", "seed", "world_size", *_Position.__dataclass_fields__} - set(state)
        if missing:
            raise PackError(
                f"the loader state lacks {', '.join(sorted(missing))}: it is not one of PackedDataset"
            )
        if state["plan"] != self.plan.fingerprint or state["seed"] != self.seed:
            raise PackError(
                "the loader state was saved for another plan: use the same folder, capacity, strategy, overflow and seed"
            )
        if state["workers"] > 1 and state["world_size"] != self.world_size:
            raise PackError(
                f"the state was saved inside a worker of {state['world_size']} ranks, there are {self.world_size} now: "
                "resume with as many, or save it in the main process"
            )
        position = _Position(**{name: state[name] for name in _Position.__dataclass_fields__})
        if self.epoch > position.epoch and self._next_row(position) is None:
            return  # that epoch is over, and set_epoch has gone on already (torchdata loads states late)
        self._resume = position
        self._epoch.fill_(position.epoch)

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes plan again instead of being sent the plan."""
        return {name: value for name, value in self.__dict__.items() if name != "plan"}


def _numbers(packed: PackedDataset) -> Iterator[dict[str, list[int]]]:
    """All rows of the rank in its epoch, as ``datasets`` wants them; it decides itself which worker calls this."""
    for _, row in packed.rows_from(_Position(packed.epoch)):
        yield {name: values.tolist() for name, values in row.items()}


def _set_both_epochs(packed: PackedDataset, set_epoch: Callable[[int], None], epoch: int) -> None:
    packed.set_epoch(epoch)
    set_epoch(epoch)
