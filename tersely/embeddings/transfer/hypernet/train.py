r"""A network is trained against a frozen model: texts, and for each batch another tokenizer, whose rows the network makes.

    texts -> passages --> tokenizers drawn, in worker processes --> batches --> rows --> frozen model --> loss
                     \-> held out, with three tokenizers of their own: is it learned, or known by heart?

In the folder: config.json and model.safetensors in the end, log.jsonl and loss.svg from the start, checkpoint.safetensors between.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tersely.embeddings.transfer.hypernet import checkpoint
from tersely.embeddings.transfer.hypernet.batches import Batch, Batches, Source
from tersely.embeddings.transfer.hypernet.checkpoint import Place
from tersely.embeddings.transfer.hypernet.frozen import Frozen
from tersely.embeddings.transfer.hypernet.network import Hypernet, HypernetConfig
from tersely.embeddings.transfer.hypernet.plot import draw_losses
from tersely.embeddings.transfer.hypernet.surface import SurfaceReader
from tersely.embeddings.transfer.hypernet.vocabularies import Vocabularies, Vocabulary
from tersely.embeddings.transfer.passages import passages
from tersely.embeddings.transfer.pieces import Decomposition
from tersely.embeddings.transfer.quality import generates
from tersely.embeddings.transfer.tables import check_model
from tersely.embeddings.transfer.vocabulary import ByteView
from tersely.errors import EmbeddingError, TokenizeError, UsageError

_SAMPLE = 8_000_000  # characters that parts of words are counted in
_HELD_OUT = 1_000_000  # characters of held-out passages
_UNSEEN_SIZE = 8192  # tokens of the vocabularies for held-out passages
_WARM_UP = 0.03  # share of the run
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


def train_hypernet(
    model: Any,
    tokenizer: Any,
    texts: Iterable[str],
    out: Path | str,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int = 64,
    width: int | None = None,
    learning_rate: float = 5e-4,
    classes: int = 8192,
    bases: int = 12,
    every: int = 500,
    device: str | torch.device | None = None,
    workers: int = 0,
    seed: int = 0,
    resume: bool = False,
    on_progress: Callable[[TrainingStep], None] | None = None,
) -> Hypernet:
    """Trains a network that makes rows for any new vocabulary of a model; the model stays as it is.

    On a CPU a run that goes on from its checkpoint comes to the same weights as one that was not broken off, if its length is
    given in steps.

    Args:
        model: an encoder or decoder of transformers; it is moved to the device.
        tokenizer: its fast tokenizer.
        texts: like those that the swapped models will see. A tenth of their passages is held out, to measure on.
        out: the folder to make.
        steps: batches to train on; or
        minutes: time to take, with all that comes before the first batch.
        batch: texts of a batch.
        width: of the network; by default twice the dimension of a row, between 256 and 1024.
        learning_rate: its peak; it rises for the first steps, then falls along a cosine.
        classes: tokens of a drawn vocabulary that the softmax of a decoder runs over, besides those of the batch. They are drawn
            evenly and weighted for those that were not.
        bases: BPEs that are trained to draw from.
        every: steps from one measurement on held-out passages to the next; there is a checkpoint too, and every two minutes.
        device: where the model runs; by default a GPU if there is one.
        workers: processes that make batches; 0 makes them in this one.
        seed: decides the weights at the start and all batches.
        resume: go on from the checkpoint in ``out``.
        on_progress: is told of each step.

    Returns:
        The network, in evaluation mode, as it was saved.

    Raises:
        UsageError: neither steps nor minutes, or both, or no text.
        EmbeddingError: the model cannot be served, ``out`` is in use, or its checkpoint is of another run.
        TokenizeError: the tokenizer is of no kind that can be read.
    """
    started = time.monotonic()
    _check(tokenizer, steps, minutes, Path(out), resume)
    view = ByteView.of(tokenizer)
    check_model(model, len(view))
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    frozen = Frozen(model, ~view.special)
    network = _network(frozen, view, width, seed).to(model.device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    settings = {"batch": batch, "classes": classes, "bases": bases, "seed": seed, "steps": steps}
    settings |= {"learning_rate": learning_rate, "width": network.config.width}
    run = _Run(frozen, network, optimizer, Path(out), settings, minutes, every, on_progress)
    run.begin(resume, started)
    learned, held_out, vocabularies, unseen = _material(texts, bases, seed)
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    decoder = generates(model)
    source = Source(tokenizer, decoder, longest - 2)
    reader = SurfaceReader(view, Decomposition(tokenizer, view))
    plan = {"batch": batch, "classes": classes if decoder else 0, "seed": seed}
    trained = Batches(learned, source, reader, vocabularies, **plan)
    measured = Batches(held_out, source, reader, unseen, **plan)
    with frozen.still():
        run.train(trained, [measured[number] for number in range(2 * len(unseen))], workers)
    return network.eval()


class _Run:
    """The steps of a run, its log and its files."""

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
        rate = self._peak * _shape(self._share())
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


def _check(tokenizer: Any, steps: int | None, minutes: float | None, out: Path, resume: bool) -> None:
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise TokenizeError(
            "the tokenizer must tell its special tokens: load it with transformers' AutoTokenizer"
        )
    if (steps is None) == (minutes is None):
        raise UsageError("a run is as long as steps= or minutes= says: give one of them")
    if (steps if steps is not None else minutes or 0) <= 0:
        raise UsageError("a run of no length trains nothing: give steps or minutes above zero")
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EmbeddingError(f"{out} exists and is not empty: name a folder to make, or go on with resume")


def _network(frozen: Frozen, view: ByteView, width: int | None, seed: int) -> Hypernet:
    """The network before training, its weights decided by the seed."""
    dims = frozen.dims
    width = width or min(1024, max(256, 2 * max(dims.values()) // 64 * 64))
    if width % 64:
        raise UsageError(f"the width {width} is no multiple of 64: give one that is")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Hypernet(HypernetConfig(dims=dims, width=width, fingerprint=view.fingerprint))
    for name in dims:
        network.measure(name, frozen.table(name).cpu())
    return network


def _material(
    texts: Iterable[str], bases: int, seed: int
) -> tuple[list[str], list[str], Vocabularies, list[Vocabulary]]:
    """Passages to learn from and others, tokenizers to draw from, and some for the others."""
    learned, held_out = list[str](), list[str]()
    for passage, out in passages(texts):
        (held_out if out else learned).append(passage)
    if not held_out:
        raise UsageError("the corpus is too small to hold a tenth out: give at least ten passages")
    generator = np.random.default_rng([seed, 1 << 40])
    vocabularies = Vocabularies(_some(learned, _SAMPLE, generator), generator, bases)
    held_out = _some(held_out, _HELD_OUT, generator)
    return learned, held_out, vocabularies, Vocabularies(held_out, generator, 1).each(_UNSEEN_SIZE, generator)


def _some(texts: list[str], size: int, generator: np.random.Generator) -> list[str]:
    """Texts drawn until they have so many characters."""
    found = list[str]()
    for place in generator.permutation(len(texts)).tolist():
        found.append(texts[place])
        size -= len(texts[place])
        if size < 0:
            break
    return found


def _shape(share: float) -> float:
    """The learning rate over the run, as a share of its peak."""
    if share < _WARM_UP:
        return max(share / _WARM_UP, 0.01)
    return max(0.5 * (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP))), 0.01)


def _alone(worker: int) -> None:
    """Workers are many already, and the threads of ``tokenizers`` do not outlive a fork."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
