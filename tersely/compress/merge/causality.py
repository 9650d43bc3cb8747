"""Does a decoder look ahead? Found by trying it, as ``pack.check_isolation`` finds leaks between documents.

One id is changed; every output and every boundary before it, and in the other documents, must stay as it was. A policy
that reads one byte ahead, a mean over a group that has not ended, a smoothing that runs the wrong way: all show, and the
report says at which position and by how much.

Legend: ``T`` packed ids, ``N`` documents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tersely.errors import UsageError

Forward = Callable[[Tensor, Tensor], Any]
"""``(input_ids (T,), cu_seqlens (N + 1,))`` to outputs ``(T, ...)``, or to an object with ``logits`` and, if it has
boundaries, ``keep``."""

_NOISIEST = 0.1
"""Where noise would hide leaks: sums in another order move outputs of bfloat16 by far less, dropout by more."""


@dataclass(frozen=True)
class Leak:
    """What a change of one id moved that it may not move.

    Attributes:
        changed: the position whose id was changed.
        position: the first position that moved, before it or in another document.
        by: the largest change of an output there or at any other such position, relative to the largest output.
        boundaries: how many boundaries came or went.
    """

    changed: int
    position: int
    by: float
    boundaries: int


@dataclass(frozen=True)
class CausalityReport:
    """The result of ``check_causality``: truthy if nothing looks ahead; printing it shows what does.

    Attributes:
        tried: the positions that were changed.
        leaks: for each of them that moved what it may not.
    """

    tried: tuple[int, ...]
    leaks: tuple[Leak, ...]

    def __bool__(self) -> bool:
        return not self.leaks

    def __str__(self) -> str:
        lines = [f"{len(self.tried)} positions changed: {'causal' if self else 'LOOKS AHEAD'}"]
        lines += [
            f"  a change at {leak.changed} moved {leak.position}, outputs by {leak.by:.1e}, {leak.boundaries} boundaries"
            for leak in self.leaks
        ]
        return "\n".join(lines)


@torch.no_grad()
def check_causality(
    forward: Forward, input_ids: Tensor, cu_seqlens: Tensor | None = None, *, tries: int = 32, seed: int = 0
) -> CausalityReport:
    """Whether outputs and boundaries of a decoder hang on what comes before them alone.

    Args:
        forward: the model, or any function of ids and boundaries of documents. It must give the same for the same.
        input_ids: int64, ``(T,)``: a text in which the policy has something to decide.
        cu_seqlens: ``(N + 1,)``, int32: documents; one by default.
        tries: how many positions are changed, one forward each; all if there are no more.
        seed: which positions, and to what.

    Raises:
        UsageError: there is nothing to change, outputs are not finite, or not the same for the same ids.
    """
    if not len(input_ids):
        raise UsageError("a causality check of no ids changes nothing: give a text")
    if cu_seqlens is None:
        cu_seqlens = torch.tensor([0, len(input_ids)], dtype=torch.int32, device=input_ids.device)
    draw = torch.Generator().manual_seed(seed)
    end = int(cu_seqlens[-1])
    tried = sorted(torch.randperm(end, generator=draw)[:tries].tolist())
    before, kept = _outputs(forward, input_ids, cu_seqlens)
    again, kept_again = _outputs(forward, input_ids, cu_seqlens)
    scale = float(before.abs().max()) or 1.0
    noise = 4 * float((again - before).abs().max()) / scale
    if noise > _NOISIEST or bool((kept != kept_again).any()):
        raise UsageError(
            f"the same ids gave outputs that differ by {noise / 4:.1e} of the largest, or other boundaries: call eval()"
        )
    noise = max(64 * torch.finfo(before.dtype).eps, noise)
    leaks: list[Leak] = []
    for changed in tried:
        other = input_ids.clone()
        other[changed] = _another(input_ids, changed, draw)
        after, now = _outputs(forward, other, cu_seqlens)
        may = _may_move(changed, cu_seqlens, len(input_ids))
        by = ((after - before).abs().amax(1) / scale).masked_fill(may, 0)
        turned = (kept != now) & ~may
        moved = (by > noise) | turned
        if bool(moved.any()):
            leaks.append(Leak(changed, int(moved.nonzero()[0]), float(by.max()), int(turned.sum())))
    return CausalityReport(tuple(tried), tuple(leaks))


def _outputs(forward: Forward, input_ids: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs ``(T, C)``, and boundaries ``(T,)``: none where the forward tells none."""
    out = forward(input_ids, cu_seqlens)
    values = out if isinstance(out, Tensor) else out.logits
    if not bool(torch.isfinite(values).all()):
        raise UsageError("the outputs are not finite: nothing can be told from them")
    keep = getattr(out, "keep", None)
    return values.flatten(1), torch.zeros(
        len(values), dtype=torch.bool, device=values.device
    ) if keep is None else keep


def _another(input_ids: Tensor, place: int, draw: torch.Generator) -> int:
    """An id of the text that is not the one at ``place``; the next number if there is but one."""
    here = int(input_ids[place])
    others = input_ids[input_ids != here]
    return int(others[int(torch.randint(len(others), (), generator=draw))]) if len(others) else abs(here - 1)


def _may_move(changed: int, cu_seqlens: Tensor, tokens: int) -> Tensor:
    """Positions that may hang on the changed one: it, and those after it in its document; slack too."""
    places = torch.arange(tokens, device=cu_seqlens.device)
    end = cu_seqlens[int(torch.searchsorted(cu_seqlens[1:].contiguous(), changed, right=True)) + 1]
    return ((places >= changed) & (places < end)) | (places >= cu_seqlens[-1])
