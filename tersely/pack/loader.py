"""Packed rows for a training loop, planned on the fly from a prepared folder.

Planning a million documents takes a hundredth of a second, so the folder's own rows are only a default: every
``PackedDataset`` puts the stored documents into rows of the capacity, strategy and seed that the run wants.

    plan -> bins shuffled by (seed, epoch) -> every world_size-th bin to this rank -> every workers-th to this worker
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from tersely.errors import FingerprintError, PackError, UsageError, choose
from tersely.pack.balance import Balance
from tersely.pack.mapped import mapped_arrays
from tersely.pack.order import Order, ordered
from tersely.pack.pieces import Overflow
from tersely.pack.plan import PLAN_VERSION, PackPlan, Strategy, plan
from tersely.pack.position import BalancedFrom, Position
from tersely.pack.rows import ROWS_VERSION, RowTable, build_rows
from tersely.ragged import Ragged
from tersely.shards import ShardFolder
from tersely.shards.verify import check_folder
from tersely.tokenize import Tokenizer

if TYPE_CHECKING:
    import datasets

STATE_VERSION = 2

_SHARED_FROM = 1 << 17
"""From so many stored pieces on, all processes map one table of rows; below, each makes its own within milliseconds."""

_AHEAD = 64
"""Rows whose place in the plan is looked up at once."""


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
        verify: read every byte first and compare checksums, as ``tersely verify`` does; otherwise the sizes are.
        balance: if given, the rows that the ranks have at a time cost them about the same.

    Each row is a mapping of numpy arrays: ``input_ids`` (the stored dtype), ``seq_lengths`` (int32, the token counts of
    its documents), and ``labels`` (int32, not shifted, -100 where a token is not trained on) if the folder has them.
    ``PackedCollator`` turns rows into a batch.

    Call ``set_epoch`` before each epoch; the order of an epoch depends on seed and epoch only (with ``balance``, also on
    it and on ``world_size``), and with a batch size of one row not on the number of workers either.

    Where the folder has more than a hundred thousand pieces, the plan is kept as a file in its folder ``.index`` (or, if
    that cannot be written, in ``TMPDIR``), which all processes on a machine map: it is made once, and is in memory once,
    with 13 bytes for a document. It may be removed at any time.

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
        balance: Balance | None = None,
        verify: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank {rank} is not one of {world_size} ranks")
        if seed < 0:
            raise UsageError(f"seed {seed} is negative")
        self.folder = ShardFolder(path)
        if verify:
            check_folder(path)
        stored = self.folder.manifest.tokenizer
        if tokenizer is not None and tokenizer.fingerprint != stored.fingerprint:
            raise FingerprintError(
                f"{path} was made with the tokenizer {stored.spec} ({stored.fingerprint[:12]}), not with the one given "
                f"({tokenizer.fingerprint[:12]}): prepare the corpus again, or load {Path(path) / 'tokenizer'}"
            )
        packing = self.folder.manifest.packing
        self.capacity = packing.capacity if capacity is None else operator.index(capacity)
        self.strategy: Strategy = choose(Strategy, strategy or packing.strategy)
        self.overflow: Overflow = choose(Overflow, overflow or packing.overflow)
        self.seed, self.rank, self.world_size = operator.index(seed), rank, world_size
        self.balance = balance
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that live on
        self._position = self.beginning(0)
        self._resume: Position | None = None

    @cached_property
    def plan(self) -> PackPlan:
        """The rows, before shuffling; made anew, since giving rows out does not need it."""
        lengths, seed = self.folder.document_lengths, self._plan_seed
        if self.capacity:
            return plan(lengths, self.capacity, self.strategy, self.overflow, seed)
        documents = int(np.count_nonzero(lengths))
        each = Ragged(np.arange(documents), np.arange(documents + 1))
        longest = max(1, int(lengths.max(initial=0)))
        return PackPlan(lengths, each, longest, Strategy.NEXT_FIT, Overflow.SPLIT, seed)

    @property
    def _plan_seed(self) -> int:
        """Other strategies draw nothing, and so their plans serve all seeds."""
        return self.seed if self.strategy is Strategy.MIX else 0

    @cached_property
    def rows(self) -> RowTable:
        """Where the tokens of each row of the plan are."""
        if sum(entry.pieces for entry in self.folder.manifest.shards) < _SHARED_FROM:
            return build_rows(self.plan, self.folder.pieces)
        settings = (self.capacity, str(self.strategy), str(self.overflow), self._plan_seed)
        key = json.dumps([ROWS_VERSION, PLAN_VERSION, self.folder.fingerprint, *settings])
        return RowTable(**mapped_arrays(self.folder.path, key, self._build))

    def _build(self) -> dict[str, np.ndarray]:
        """The table, from objects that are dropped with all they have computed."""
        again = PackedDataset(
            self.folder.path, self.capacity, self.strategy, self.seed, overflow=self.overflow
        )
        return build_rows(again.plan, again.folder.pieces).arrays()

    def __len__(self) -> int:
        """Rows of one epoch for this rank, those already behind it included."""
        return -(-len(self.rows) // self.world_size)

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
                "use the same num_workers, or make one state of those of all workers with merge_states"
            )
        self._position = replace(start, worker=worker, workers=workers)
        return self._tracked(self._position)

    def _tracked(self, start: Position) -> Iterator[dict[str, np.ndarray]]:
        for position, row in self.rows_from(start):
            self._position = position  # first: the row counts even if the caller never comes back for another
            yield row

    def rows_from(self, start: Position) -> Iterator[tuple[Position, dict[str, np.ndarray]]]:
        """Each row from ``start`` on, and where a reader stands that has it; changes nothing."""
        order, end, rows = self.order(start), self.end(start), len(self.rows)
        given, ahead = 0, 1
        while True:
            places = start.next_row(self.rank, self.world_size, given + np.arange(ahead))
            places = places[places < end]
            for index in order.at(places % rows).tolist() if len(places) else []:
                given += 1
                yield start.after(given, self.world_size), self.row(index)
            if len(places) < ahead:
                return
            ahead = min(2 * ahead, _AHEAD)

    def beginning(self, epoch: int) -> Position:
        """Where an epoch begins."""
        levels = (BalancedFrom(0, self.world_size, self.balance),) if self.balance else ()
        return Position(epoch, levels=levels)

    def end(self, start: Position) -> int:
        """The position that no row has any more, for readers from ``start``.

        Every rank gets equally many rows from its base on: the last ones are the first of the epoch again.
        """
        left = max(0, len(self.rows) - start.base)
        return start.base + -(-left // self.world_size) * self.world_size

    def order(self, start: Position) -> Order:
        """Which rows of the plan come at which position, for readers from ``start``."""
        return ordered(len(self.rows), (self.seed, start.epoch), start.levels, self._costs)

    def _costs(self, balance: Balance, rows: np.ndarray) -> np.ndarray:
        return balance.costs(self.rows.tokens[rows], self.rows.squares[rows])

    def costs(self, balance: Balance) -> np.ndarray:
        """What the rows of this epoch cost as ``balance`` estimates it, whether they are balanced by it or not.

        Returns:
            int64, shape ``(len(self), world_size)``: in one row what the ranks do at the same time.
            ``imbalance`` says how much of the time they wait for each other.
        """
        start = self.beginning(self.epoch)
        places = np.arange(self.end(start))
        rows = self.order(start).at(places % len(self.rows)) if len(places) else places
        return self._costs(balance, rows).reshape(-1, self.world_size)

    def _standing(self) -> Position:
        """Where the next reader of this epoch starts."""
        pending = self._resume
        return pending if pending and pending.epoch == self.epoch else self.beginning(self.epoch)

    def row(self, index: int) -> dict[str, np.ndarray]:
        """Row ``index`` of the plan."""
        if not 0 <= index < len(self.rows):
            raise IndexError(f"row {index} of {len(self.rows)}")
        ranges = list(self.rows.ranges(index))
        values = self.folder.values
        row = {
            "input_ids": np.concatenate([values(shard)[start : start + n] for shard, start, n in ranges]),
            "seq_lengths": self.rows.seq_lengths(index),
        }
        if "labels" in self.folder.manifest.columns:
            parts = [values(shard, "labels")[start : start + n] for shard, start, n in ranges]
            row["labels"] = np.concatenate(parts)
        return row

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
        """Where the last iterator of this object stands, JSON-able and small: it grows only where ranks or workers change in an epoch.

        It knows of rows read in its own process. With worker processes use ``torchdata``'s ``StatefulDataLoader``,
        which asks each of them; such a state fits the same number of workers and ranks, and ``merge_states`` makes one
        of all of them that fits any. A state saved where rows are read in the main process fits any number of ranks
        and workers as it is. Rows already seen stay behind.
        """
        read = self._position.epoch == self.epoch and self._resume is None
        return self.state_at(self._position if read else self._standing())

    def state_at(self, position: Position) -> dict[str, Any]:
        """The state of a reader who stands at ``position``."""
        return {
            "version": STATE_VERSION,
            "plan": self.rows.fingerprint,
            "rows": len(self.rows),
            "seed": self.seed,
            "rank": self.rank,
            "world_size": self.world_size,
            **position.to_json(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where the dataset that gave ``state`` stood, or where all did whose states were merged.

        Raises:
            PackError: the state is of another corpus, capacity, strategy or seed, so its rows are not these.
        """
        position = self.position_of(state)
        if self.epoch > position.epoch and position.next_row(self.rank, self.world_size) >= self.end(
            position
        ):
            return  # that epoch is over, and set_epoch has gone on already (torchdata loads states late)
        self._resume = position
        self._epoch.fill_(position.epoch)

    def position_of(self, state: dict[str, Any]) -> Position:
        """Where the reader stood who gave ``state``, for as many ranks, and balanced, as here.

        Raises PackError as ``load_state_dict`` does.
        """
        if state.get("version") != STATE_VERSION:
            raise PackError(
                f"the loader state is of version {state.get('version')}, this tersely reads {STATE_VERSION}"
            )
        if missing := {"plan", "seed", "world_size"} - set(state):
            raise PackError(
                f"the loader state lacks {', '.join(sorted(missing))}: it is not one of PackedDataset"
            )
        position = Position.from_json(state)
        if state["plan"] != self.rows.fingerprint or state["seed"] != self.seed:
            raise PackError(
                "the loader state was saved for another plan: use the same folder, capacity, strategy, overflow and seed"
            )
        balanced = self._is_balanced(position)
        if position.workers > 1 and not (balanced and state["world_size"] == self.world_size):
            raise PackError(
                f"the state was saved inside a worker of {state['world_size']} ranks, there are {self.world_size} now, or "
                "the balance is another: resume with the same, or make one state of all ranks' with merge_states"
            )
        if balanced or not self.balance:
            return position
        level = BalancedFrom(position.base, self.world_size, self.balance)
        return replace(position, levels=(*position.levels, level))

    def _is_balanced(self, position: Position) -> bool:
        """Whether the rows that come next are already in steps as ``balance`` wants them, if it wants anything."""
        top = position.levels[-1] if position.levels else None
        asked = (self.world_size, self.balance)
        return not self.balance or (isinstance(top, BalancedFrom) and (top.world_size, top.balance) == asked)

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes map the rows again, or plan them, instead of being sent them."""
        return {name: value for name, value in self.__dict__.items() if name not in ("plan", "rows")}


def _numbers(packed: PackedDataset) -> Iterator[dict[str, list[int]]]:
    """All rows of the rank in its epoch, as ``datasets`` wants them; it decides itself which worker calls this."""
    for _, row in packed.rows_from(packed.beginning(packed.epoch)):
        yield {name: values.tolist() for name, values in row.items()}


def _set_both_epochs(packed: PackedDataset, set_epoch: Callable[[int], None], epoch: int) -> None:
    packed.set_epoch(epoch)
    set_epoch(epoch)
