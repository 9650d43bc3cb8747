"""Does a model let packed documents see each other? Found by trying it, not by trusting a mask.

One document of a packed batch is changed; if any output of another document moves, the batch leaks. Every document is
changed in turn, with and without a cache, in training and in evaluation mode, because transformers isolates packed
rows in some of these and not in others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tersely.errors import PackError
from tersely.pack.batch import PackedCollator, to_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LENGTHS = (7, 60, 1, 20, 40)
_TOLERANCE = 1e-3
"""A change counts as a leak above this share of the largest logit, or 64 units of precision if that is less."""


@dataclass(frozen=True)
class Setting:
    """One way of calling the model, and the largest change it let through.

    Attributes:
        training: the model was in ``train()`` mode.
        use_cache: what was passed as ``use_cache``.
        leak: largest change of any logit of an unchanged document, relative to the largest logit.
        leaks: whether that is more than rounding.
    """

    training: bool
    use_cache: bool
    leak: float
    leaks: bool


@dataclass(frozen=True)
class IsolationReport:
    """The result of ``check_isolation``: truthy if no setting leaks; printing it shows all of them."""

    model: str
    attention: str
    settings: tuple[Setting, ...]

    @property
    def leaks(self) -> bool:
        """Whether documents see each other in some setting."""
        return any(setting.leaks for setting in self.settings)

    def __bool__(self) -> bool:
        return not self.leaks

    def __str__(self) -> str:
        lines = [f"{self.model}, {self.attention} attention: {'LEAKS' if self.leaks else 'isolated'}"]
        for setting in self.settings:
            mode = "train" if setting.training else "eval"
            verdict = "LEAK" if setting.leaks else "ok"
            lines.append(f"  {mode:5} use_cache={setting.use_cache!s:5}  {verdict:4} {setting.leak:.1e}")
        return "\n".join(lines)


def check_isolation(
    model: PreTrainedModel,
    collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
    *,
    lengths: Sequence[int] = _LENGTHS,
    use_cache: Sequence[bool] = (False, True),
    training: Sequence[bool] = (False, True),
    seed: int = 0,
) -> IsolationReport:
    """Whether ``model`` keeps the documents of a packed batch apart.

    Args:
        model: a causal language model; it is left as it was.
        collator: makes the batch from rows; by default ``PackedCollator(model)``. It may return any mapping whose
            ``input_ids`` hold the documents one after another in one row.
        lengths: tokens of the documents, at least two.
        use_cache: the values of ``use_cache`` to try.
        training: the modes to try: False for ``eval()``, True for ``train()``.
        seed: what the random tokens (and dropout) come from.

    Costs ``len(lengths) + 2`` forward passes of ``sum(lengths)`` tokens for each setting. What two runs of the same
    batch differ by is not taken for a leak. Raises PackError if the model's outputs are not finite, or all zero.
    """
    if len(lengths) < 2 or min(lengths) < 1:
        raise PackError(f"lengths {tuple(lengths)}: at least two documents of at least one token can leak")
    collate = collator or PackedCollator(model)
    documents = _documents(model, lengths, seed)
    settings: list[Setting] = []
    with _restored(model):
        for mode in training:
            model.train(mode)
            for cache in use_cache:
                leak, noise = _largest_leak(model, collate, documents, cache, seed)
                settings.append(Setting(mode, cache, leak, leaks=not leak <= noise))
    attention = str(getattr(model.config, "_attn_implementation", "unknown"))
    return IsolationReport(type(model).__name__, attention, tuple(settings))


def _documents(model: PreTrainedModel, lengths: Sequence[int], seed: int) -> list[torch.Tensor]:
    vocab_size = int(model.config.get_text_config().vocab_size)
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab_size, (length,), generator=generator) for length in lengths]


def _largest_leak(
    model: PreTrainedModel, collate: Any, documents: list[torch.Tensor], cache: bool, seed: int
) -> tuple[float, float]:
    """The largest relative change seen in an unchanged document, and how large rounding may make it."""
    before = _logits(model, collate, documents, cache, seed)
    scale = max(float(logits.abs().max()) for logits in before)
    if not 0 < scale < float("inf"):
        raise PackError(
            f"the largest logit of {type(model).__name__} is {scale}: nothing can be told from its outputs"
        )
    again = _logits(model, collate, documents, cache, seed)
    noise = max(float((new - old).abs().max()) for old, new in zip(before, again, strict=True)) / scale
    largest = 0.0
    for changed in range(len(documents)):
        other = [(document + 1) % model.config.get_text_config().vocab_size for document in documents]
        tried = [other[i] if i == changed else document for i, document in enumerate(documents)]
        after = _logits(model, collate, tried, cache, seed)
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if index != changed:
                largest = max(largest, float((new - old).abs().max()) / scale)
    return largest, max(4 * noise, min(_TOLERANCE, 64 * torch.finfo(model.dtype).eps))


@torch.no_grad()
def _logits(
    model: PreTrainedModel, collate: Any, documents: list[torch.Tensor], cache: bool, seed: int
) -> list[torch.Tensor]:
    lengths = [len(document) for document in documents]
    batch = dict(collate([{"input_ids": torch.cat(documents), "seq_lengths": lengths}]))
    batch = to_device(batch, model.device)
    batch.pop("labels", None)
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        logits = model(**batch | {"use_cache": cache}).logits[0, : sum(lengths)].float()
    if not bool(torch.isfinite(logits).all()):
        raise PackError(
            f"{type(model).__name__} gives logits that are not finite: nothing can be told from them"
        )
    return list(torch.split(logits, lengths))


@contextmanager
def _restored(model: PreTrainedModel) -> Generator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
