"""Packed rows for a training loop, planned on the fly from a prepared folder.

Planning a million documents takes a hundredth of a second, so the folder's own rows are only a default: every
``PackedDataset`` puts the stored documents into rows of the capacity, strategy and seed that the run wants.

    plan -> bins shuffled by (seed, epoch) -> every world_size-th bin to this rank -> every workers-th to this worker
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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


class PackedDataset(IterableDataset[dict[str, np.ndarray]]):
    """Rows of packed documents, in an order that seed and epoch decide, with a state that resumes exactly.

    Args:
        path: a folder made by ``tersely prepare``.
        capacity: tokens in a row; by default that of the folder. 0 gives a row for each document.
        strategy: how documents are put into rows; by default that of the folder.
        seed: decides the order of rows (and the bins of ``mix``).
        rank: which of the ``world_size`` shares of the rows to give; leave both out under HF ``Trainer`` and
            ``accelerate``, which share the rows out themselves.
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
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self._epoch = 0
        self._base = 0  # rows of the epoch that all ranks together have behind them
        self._worker: tuple[int, int, int] | None = (
            None  # (worker, workers, rows it has behind it), if resumed in one
        )

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

    def set_epoch(self, epoch: int) -> None:
        """Selects the order of ``epoch`` and starts at its beginning; a repeated call changes nothing."""
        if epoch != self._epoch:
            self._epoch, self._base, self._worker = epoch, 0, None

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        info = get_worker_info()
        return self.share(info.id, info.num_workers) if info else self.share(0, 1)

    def share(self, worker: int, workers: int) -> Iterator[dict[str, np.ndarray]]:
        """Every ``workers``-th row of this rank, from where the state stands."""
        done = 0
        if self._worker is not None:
            if self._worker[:2] != (worker, workers):
                raise PackError(
                    f"the state was saved by worker {self._worker[0]} of {self._worker[1]}, this is worker {worker} of "
                    f"{workers}: use the same num_workers, or a state saved in the main process (num_workers=0)"
                )
            done = self._worker[2]
        order = np.random.default_rng((self.seed, self._epoch)).permutation(len(self.plan.bins))
        base = self._base
        while (row := base + (done * workers + worker) * self.world_size + self.rank) < self._rows_of_epoch(
            base
        ):
            done += 1
            # The state first: it must count this row even if the caller never comes back for another.
            if workers > 1:
                self._worker = (worker, workers, done)
            else:
                self._base = base + done * self.world_size
            yield self.row(int(order[row % len(order)]))
        self._base, self._worker = 0, None

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

        ``set_epoch`` of the result is that of this dataset. ``datasets`` reads it in one worker process at most.
        """
        import datasets

        rows = datasets.IterableDataset.from_generator(_numbers, gen_kwargs={"packed": self})
        rows.set_epoch = functools.partial(_set_both_epochs, self, rows.set_epoch)
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Where iteration stands, JSON-able and of constant size.

        Saved in the main process it fits any number of ranks and workers later on (rows already seen stay behind);
        saved inside a worker, as ``torchdata``'s ``StatefulDataLoader`` does, it fits the same number of workers.
        """
        return {
            "version": _STATE_VERSION,
            "plan": self.plan.fingerprint,
            "seed": self.seed,
            "epoch": self._epoch,
            "base": self._base,
            "worker": list(self._worker) if self._worker else None,
            "world_size": self.world_size,
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
        if state["plan"] != self.plan.fingerprint or state["seed"] != self.seed:
            raise PackError(
                "the loader state was saved for another plan: use the same folder, capacity, strategy, overflow and seed"
            )
        if state["worker"] and state["world_size"] != self.world_size:
            raise PackError(
                f"the state was saved inside a worker of {state['world_size']} ranks, there are {self.world_size} now: "
                "resume with as many, or save it in the main process"
            )
        self._epoch, self._base = state["epoch"], state["base"]
        self._worker = tuple(state["worker"]) if state["worker"] else None

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes plan again instead of being sent the plan."""
        return {name: value for name, value in self.__dict__.items() if name != "plan"}

    def _rows_of_epoch(self, base: int) -> int:
        """Where the epoch ends, counted so that every rank gets equally many rows from ``base`` on."""
        left = max(0, len(self.plan.bins) - base)
        return base + -(-left // self.world_size) * self.world_size


def _numbers(packed: PackedDataset) -> Iterator[dict[str, list[int]]]:
    """All rows of the rank, as ``datasets`` wants them; it decides itself which worker calls this."""
    for row in packed.share(0, 1):
        yield {name: values.tolist() for name, values in row.items()}


def _set_both_epochs(packed: PackedDataset, set_epoch: Callable[[int], None], epoch: int) -> None:
    packed.set_epoch(epoch)
    set_epoch(epoch)
