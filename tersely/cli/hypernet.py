"""What ``tersely train hypernet`` does: train a network for a model, print what came of it."""

from __future__ import annotations

import os
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.output import count, print_json, print_table, shown_progress, tell_fault, tell_passed_over

if TYPE_CHECKING:
    from tersely.embeddings.transfer.hypernet.run import TrainingStep

_MOST_WORKERS = 14


def run_hypernet_training(
    inputs: tuple[str, ...],
    out: Path,
    *,
    steps: int | None,
    minutes: float | None,
    batch: int,
    device: str | None,
    workers: int | None,
    seed: int,
    resume: bool,
    text_field: str,
    input_format: str,
    as_json: bool,
) -> int:
    """Trains a network for the model in the first of ``inputs`` on the texts of the others; the exit code."""
    if len(inputs) < 2:
        raise click.UsageError("hypernet needs a model and text: give MODEL CORPUS...")
    if (steps is None) == (minutes is None):
        raise click.UsageError("hypernet trains for --steps or for --minutes: give one of them")
    from tersely.corpus import find_sources
    from tersely.corpus.texts import texts_by_name

    started = time.perf_counter()
    sources, passed_over = find_sources(inputs[1:], text_field, input_format)
    tell_passed_over(passed_over)
    from transformers.utils import logging

    from tersely.embeddings import train_hypernet
    from tersely.embeddings.transfer.folder import load_model, load_tokenizer

    logging.disable_progress_bar()
    place = Path(inputs[0])
    last: Any = None
    with shown_progress("training", "steps") as show:

        def on_progress(now: TrainingStep) -> None:
            nonlocal last
            last = now
            if show:
                note = f"loss {now.loss:.4f}, held out {now.held_out:.4f}"
                show(note, now.step, round(now.step / max(now.share, 1e-9)))

        train_hypernet(
            load_model(place),
            load_tokenizer(place),
            chain.from_iterable(texts_by_name(sources, tell_fault).values()),
            out,
            steps=steps,
            minutes=minutes,
            batch=batch,
            device=device,
            workers=_workers() if workers is None else workers,
            seed=seed,
            resume=resume,
            on_progress=on_progress,
        )
    figures = {"steps": last.step, "loss": last.loss, "held_out": last.held_out}
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"out": str(out), "seconds": round(seconds, 3)} | figures)
    else:
        rows = [
            ("steps", count(last.step)),
            ("loss", f"{last.loss:.4f}"),
            ("loss, held out", f"{last.held_out:.4f}"),
            ("plot", str(out / "loss.svg")),
            ("seconds", f"{seconds:.2f}"),
        ]
        print_table(f"Trained {out}", rows)
    return 0


def _workers() -> int:
    return max(1, min(len(os.sched_getaffinity(0)) - 1, _MOST_WORKERS))
