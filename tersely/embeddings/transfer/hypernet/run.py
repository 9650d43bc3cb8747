"""The steps of a training run: the learning rate, the log, the checkpoints, the end."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tersely.embeddings.transfer.hypernet import checkpoint
from tersely.embeddings.transfer.hypernet.batches import Batch, Batches
from tersely.embeddings.transfer.hypernet.checkpoint import Place
from tersely.embeddings.transfer.hypernet.frozen import Frozen
from tersely.embeddings.transfer.hypernet.network import Hypernet
from tersely.embeddings.transfer.hypernet.plot import draw_losses

_WARM_UP = 100  # steps, or a tenth of a run that is shorter than a thousand
_CLIP = 1.0
_SAVED = 120  # seconds from one checkpoint to the next, at most
_LOGGED = 20  # steps of a line in the log


@dataclass(frozen=True)
class TrainingStep:
    """How far a run is.

    Attributes:
        step: steps done.
        share: of the whole run.
        loss: the mean over the last steps.
        held_out: loss on held-out passages, the last that was measured.
    """

    step: int
    share: float
    loss: float
    held_out: float


class Run:
    """The steps of a run, its log and its files.

    Args:
        frozen: the model.
        network: is trained.
        optimizer: of the network.
        out: the folder of the run.
        settings: what must be the same when the run goes on; ``steps``, perhaps None, and ``learning_rate`` are among them.
        minutes: when it ends, if it is not by steps.
        every: steps from one measurement to the next.
        on_progress: is told of each step.
    """

    def __init__(
        self,
        frozen: Frozen,
        network: Hypernet,
        optimizer: torch.optim.Optimizer,
        out: Path,
        settings: dict[str, Any],
        minutes: float | None,
        every: int,
        on_progress: Callable[[TrainingStep], None] | None,
    ) -> None:
        self._frozen, self._network, self._optimizer, self._out = frozen, network, optimizer, out
        self._settings, self._every, self._tell = settings, every, on_progress
        self._steps: int | None = settings["steps"]
        self._seconds = 60 * minutes if minutes is not None else math.inf
        self._peak: float = settings["learning_rate"]
        self._step, self._started, self._saved = 0, 0.0, time.monotonic()
        self._held_out = math.nan
        self._recent = list[Tensor]()

    def begin(self, resume: bool, started: float) -> None:
        """Makes the folder, or brings everything to where the checkpoint in it was."""
        self._started = started
        log = self._out / "log.jsonl"
        if not resume:
            self._out.mkdir(parents=True, exist_ok=True)
            log.touch()
            return
        place = checkpoint.load(self._out, self._network, self._optimizer, self._settings)
        self._step, self._started = place.step, started - place.seconds
        lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= place.step]
        log.write_text("".join(f"{line}\n" for line in lines))

    def train(self, batches: Batches, held_out: Sequence[Batch], workers: int) -> None:
        """Steps until the end, which is written."""
        numbers = range(self._step, self._steps if self._steps is not None else 1 << 40)
        loader = DataLoader(
            batches,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            worker_init_fn=_alone,
            prefetch_factor=4 if workers else None,
        )
        if self._step == 0:
            self._measure(held_out)
        for made in loader:
            self._step_on(made)
            ended = self._share() >= 1
            if self._step % self._every == 0 or ended:
                self._measure(held_out)
            due = self._step % self._every == 0 or time.monotonic() - self._saved > _SAVED
            if due and not ended:
                self._save()
            if self._tell:
                self._tell(TrainingStep(self._step, self._share(), self._loss(), self._held_out))
            if ended:
                break
        self._network.save_pretrained(self._out)
        (self._out / checkpoint.NAME).unlink(missing_ok=True)

    def _save(self) -> None:
        self._saved = time.monotonic()
        place = Place(self._step, self._saved - self._started, self._settings)
        checkpoint.save(self._out, self._network, self._optimizer, place)

    def _step_on(self, made: Batch) -> None:
        rise = min(1.0, (self._step + 1) / min(_WARM_UP, 1 + (self._steps or 10 * _WARM_UP) // 10))
        rate = self._peak * rise * max(0.5 * (1 + math.cos(math.pi * min(self._share(), 1))), 0.01)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss, figures = self._frozen.loss(self._network, made)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _CLIP, error_if_nonfinite=True)
        self._optimizer.step()
        self._step += 1
        self._recent = [*self._recent[1 - _LOGGED :], loss.detach()]
        if self._step % _LOGGED == 0:
            self._log({"loss": self._loss(), "learning_rate": rate} | figures)

    @torch.no_grad()
    def _measure(self, held_out: Sequence[Batch]) -> None:
        """The loss on held-out passages, by tokenizers that are never trained with."""
        losses = [self._frozen.loss(self._network, made)[0] for made in held_out]
        self._held_out = float(torch.stack(losses).mean())
        self._log({"held_out": self._held_out})
        draw_losses(self._out / "log.jsonl", self._out / "loss.svg")

    def _share(self) -> float:
        """How much of the run is done."""
        share = self._step / self._steps if self._steps is not None else 0.0
        return max(share, (time.monotonic() - self._started) / self._seconds)

    def _loss(self) -> float:
        return float(torch.stack(self._recent).mean())

    def _log(self, figures: dict[str, float]) -> None:
        line = {"step": self._step, "seconds": round(time.monotonic() - self._started, 1)} | figures
        with (self._out / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def _alone(worker: int) -> None:
    """Workers are many already, and the threads of ``tokenizers`` do not outlive a fork."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
