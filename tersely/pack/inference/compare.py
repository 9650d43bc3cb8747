"""What packed prefill gains on a user's own prompts: four ways to the first token of each, timed, and their answers compared.

    padded          batches in the order given, padded on the left to the longest prompt of each
    length-sorted   the same after sorting by length, so that each batch holds prompts of like lengths
    one by one      no padding, and no company
    packed          ``prefill``

The first three run the model as it is; caches of all prompts are kept in each way, since they are what prefill is for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tersely.pack.inference.prefill import PrefillReport, prefill, report_of, rows_of, token_budget_of
from tersely.pack.inference.prompts import Ids, prompt_ids
from tersely.pack.inference.support import check_decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Share of the largest logit that rounding may move one by; 0.05 for half precision."""


@dataclass(frozen=True)
class Way:
    """One way to prefill the prompts.

    Attributes:
        name: what it is called.
        seconds: until the last prompt has its first token.
        first_token_seconds: the mean over prompts of the time until each has its first token, all being asked for at once.
        computed_tokens: tokens that went through the model, padding included.
        cache_bytes: of the caches of all prompts, padding included.
        peak_bytes: memory of the GPU above that of the model, at most; None on a CPU.
        difference: largest difference of a logit from running the prompt alone, as a share of the largest logit.
        same_tokens: prompts whose first token is the same, of all.
    """

    name: str
    seconds: float
    first_token_seconds: float
    computed_tokens: int
    cache_bytes: int
    peak_bytes: int | None
    difference: float
    same_tokens: int


@dataclass(frozen=True)
class PrefillComparison:
    """The result of ``compare_prefill``.

    Attributes:
        ways: padded, length-sorted, one by one and packed.
        report: of the packed way.
        agrees: whether the packed way gives what each prompt gives alone, within rounding.
    """

    ways: tuple[Way, ...]
    report: PrefillReport
    agrees: bool


@dataclass
class _Run:
    """One run of one way: what it returned, and when each prompt was done."""

    logits: Tensor
    done: np.ndarray[Any, Any]
    computed_tokens: int
    cache_bytes: int


def compare_prefill(
    model: PreTrainedModel,
    prompts: Any,
    *,
    batch_size: int = 32,
    token_budget: int | None = None,
    repeats: int = 2,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> PrefillComparison:
    """Times the ways on the same prompts, each ``repeats`` times in turn, and keeps the fastest run of each.

    Args:
        model: as for ``prefill``.
        prompts: lists of ids, or whatever ``prefill`` takes.
        batch_size: prompts of a padded batch.
        token_budget: as for ``prefill``.
        repeats: runs of each way.
        on_progress: called with the way, runs done and runs in all.

    Raises:
        PackError: as ``prefill``.
    """
    traits = check_decoder(model)
    ids = prompt_ids(prompts)
    order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
    in_order = list(range(len(ids)))
    ways: dict[str, Callable[[], _Run]] = {
        "padded": lambda: _batches(model, ids, in_order, batch_size),
        "length-sorted": lambda: _batches(model, ids, order, batch_size),
        "one by one": lambda: _batches(model, ids, in_order, 1),
        "packed": lambda: _packed(model, ids, token_budget),
    }
    best, peaks = dict[str, _Run](), dict[str, int | None]()
    runs = [(name, run) for _ in range(repeats) for name, run in ways.items()]
    for number, (name, run) in enumerate(runs):
        if on_progress is not None:
            on_progress(name, number, len(runs))
        found, peaks[name] = _measured(model, run)
        if name not in best or found.done.max() < best[name].done.max():
            best[name] = found
    alone = best["one by one"].logits
    compared = tuple(_way(name, found, peaks[name], alone) for name, found in best.items())
    rows = rows_of(model, traits, ids, token_budget)
    report = report_of(ids, rows, token_budget_of(model, token_budget), traits)
    limit = _TOLERANCE.get(model.dtype, 0.05)
    return PrefillComparison(compared, report, compared[-1].difference <= limit)


def _way(name: str, run: _Run, peak: int | None, alone: Tensor) -> Way:
    return Way(
        name=name,
        seconds=float(run.done.max()),
        first_token_seconds=float(run.done.mean()),
        computed_tokens=run.computed_tokens,
        cache_bytes=run.cache_bytes,
        peak_bytes=peak,
        difference=float((run.logits - alone).abs().max() / alone.abs().max()),
        same_tokens=int((run.logits.argmax(-1) == alone.argmax(-1)).sum()),
    )


def _measured(model: PreTrainedModel, run: Callable[[], _Run]) -> tuple[_Run, int | None]:
    """One run, and the most memory it took of a GPU."""
    if model.device.type != "cuda":
        return run(), None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    found = run()
    return found, torch.cuda.max_memory_allocated(model.device) - before


@torch.no_grad()
def _batches(model: PreTrainedModel, ids: Sequence[Ids], order: Sequence[int], size: int) -> _Run:
    """Left-padded batches of prompts in this order."""
    training = model.training
    model.eval()
    logits = [torch.empty(0)] * len(ids)
    done = np.zeros(len(ids))
    caches, tokens = list[Any](), 0
    started = _now(model)
    for numbers in (order[i : i + size] for i in range(0, len(order), size)):
        batch = {name: x.to(model.device) for name, x in _left_padded([ids[n] for n in numbers]).items()}
        out = model(**batch, use_cache=True, logits_to_keep=1)
        caches.append(out.past_key_values)
        tokens += batch["input_ids"].numel()
        done[numbers] = _now(model) - started
        for number, own in zip(numbers, out.logits[:, -1].float().cpu(), strict=True):
            logits[number] = own
    model.train(training)
    return _Run(torch.stack(logits), done, tokens, sum(_cache_bytes(cache) for cache in caches))


def _packed(model: PreTrainedModel, ids: Sequence[Ids], token_budget: int | None) -> _Run:
    started = _now(model)
    found = prefill(model, ids, token_budget=token_budget)
    seconds = _now(model) - started
    bytes_of_rows = sum(_cache_bytes(cache) for _, cache in found.caches.rows)
    return _Run(
        found.logits.float().cpu(), np.full(len(ids), seconds), found.report.computed_tokens, bytes_of_rows
    )


def _left_padded(prompts: Sequence[Ids]) -> dict[str, Tensor]:
    longest = max(map(len, prompts))
    input_ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, longest - len(prompt) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": input_ids, "attention_mask": mask, "position_ids": positions}


def _cache_bytes(cache: Any) -> int:
    tensors: Iterator[Tensor] = (
        x for layer in cache.layers for x in (layer.keys, layer.values) if x is not None
    )
    return sum(x.numel() * x.element_size() for x in tensors)


def _now(model: PreTrainedModel) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()
