"""Steps of a MergingBody over caches: a byte at a time, the main layers only where a group begins.

    prompts   packed, once through all layers           fills the caches of the three stacks
    step      encode (n)  -> who begins a group (m)     main (m) -> decode (n)

Each sequence carries what the forward over all of it would look up: the last states the policy reads, the states of the
group that is open (where its mean will be wanted), what the open group was given, and how that was smoothed.

Legend: ``N`` sequences, ``n`` of them in a step, ``m`` of these that begin a group, ``C`` width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tersely.compress.merge.expand import Expansion, boundary_weights
from tersely.compress.merge.groups import Groups
from tersely.compress.merge.lm.body import Caches, Merged, MergingBody
from tersely.compress.merge.reduce import Reduction
from tersely.kernels import exponential_smoothing


@dataclass(eq=False)
class Running:
    """What generation knows of each sequence.

    Attributes:
        caches: keys and values.
        states: ``(N, reach, C)``: the last states before merging; what lies before a sequence is anything.
        ids: int64, ``(N, reach)``: the ids there.
        given: ``(N, C)``: what positions of the open group get, smoothed if that is wanted.
        members: ``(N, longest, C)``: the states of the open group.
        filled: int64, ``(N,)``: how many those are.
    """

    caches: Caches
    states: Tensor
    ids: Tensor
    given: Tensor
    members: Tensor
    filled: Tensor


def begin(body: MergingBody, x: Tensor, cu_seqlens: Tensor, input_ids: Tensor) -> tuple[Merged, Running]:
    """Prompts, none of them empty, through the body: what it gives for them, and how to go on.

    Args:
        body: in evaluation mode.
        x: ``(T, C)``, their embeddings.
        cu_seqlens: ``(N + 1,)``, int32, without slack.
        input_ids: int64, ``(T,)``.
    """
    sequences, lengths = len(cu_seqlens) - 1, cu_seqlens.diff().long()
    caches = Caches.of(body, sequences, int(lengths.max()) + 1)
    merged = body(x, cu_seqlens, input_ids, caches)
    groups, ends = merged.groups, cu_seqlens[1:].long()
    back = torch.arange(body.policy.reach, 0, -1, device=x.device)
    tail = (ends[:, None] - back).clamp(min=0)
    given = merged.given
    if body.expansion is Expansion.SMOOTH:
        given = exponential_smoothing(given, boundary_weights(merged.choice, groups), groups.cu_seqlens)
    filled = ends - groups.starts.long()[groups.cu_seqlens[1:].long() - 1]
    member = (ends - filled)[:, None] + torch.arange(int(filled.max()), device=x.device)
    members = merged.encoded[member.clamp(max=len(x) - 1)]
    given = given[groups.cu_seqlens[1:].long() - 1]
    return merged, Running(caches, merged.encoded[tail], input_ids[tail], given, members, filled)


def step(body: MergingBody, x: Tensor, input_ids: Tensor, rows: Tensor, running: Running) -> Tensor:
    """One more id of some sequences, ``(n, C)`` to ``(n, C)``. Waits once, for how many begin a group.

    Args:
        body: in evaluation mode.
        x: ``(n, C)``, the embeddings of the ids.
        input_ids: int64, ``(n,)``.
        rows: int64, ``(n,)``, each once: the sequences.
        running: goes on in place.
    """
    position = running.caches.encode.lengths[rows]
    encoded = body.encode.step(x, running.caches.encode, rows, body.window)
    keep, probability = _decide(body, encoded, input_ids, position, rows, running)
    new = keep.nonzero()[:, 0]
    if len(new):
        vectors = encoded[new] if body.reduce.reduce is Reduction.KEEP else _closed(body, rows[new], running)
        given = body.down(body.main.step(body.up(vectors), running.caches.main, rows[new]))
        if probability is not None and body.expansion is Expansion.SMOOTH:
            weight = probability[new, None].to(given.dtype)
            given = weight * given + (1 - weight) * running.given[rows[new]]
        running.given[rows[new]] = given
        running.filled[rows[new]] = 0
    if body.reduce.reduce is not Reduction.KEEP:
        _remember(encoded, rows, running)
    back = running.given[rows]
    if body.expansion is Expansion.GATHER:
        back = back * keep[:, None]
    return body.decode.step(back + body.residual(encoded), running.caches.decode, rows, body.window)


def _decide(
    body: MergingBody, encoded: Tensor, input_ids: Tensor, position: Tensor, rows: Tensor, running: Running
) -> tuple[Tensor, Tensor | None]:
    """Which of the new positions begin a group, and the probability of it, ``(n,)``; remembers them for the next."""
    states = torch.cat([running.states[rows], encoded[:, None]], 1)
    ids = torch.cat([running.ids[rows], input_ids[:, None]], 1)
    shown = ids.shape[1]
    positions = position[:, None] + torch.arange(1 - shown, 1, device=rows.device)
    cu_seqlens = torch.arange(0, ids.numel() + 1, shown, device=rows.device, dtype=torch.int32)
    choice = body.policy(states.flatten(0, 1), cu_seqlens, ids.flatten(), positions.flatten())
    running.states[rows], running.ids[rows] = states[:, 1:], ids[:, 1:]
    last = slice(shown - 1, None, shown)
    return choice.keep[last], None if choice.probability is None else choice.probability[last]


def _closed(body: MergingBody, rows: Tensor, running: Running) -> Tensor:
    """The vectors of the groups that end before these sequences begin new ones, ``(m, C)``."""
    lengths = running.filled[rows]
    inside = torch.arange(running.members.shape[1], device=rows.device) < lengths[:, None]
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    documents = torch.arange(len(rows) + 1, device=rows.device)
    groups = Groups(inside[:0, 0], starts, starts[:-1], documents, torch.zeros_like(lengths))
    return body.reduce(running.members[rows][inside], groups)


def _remember(encoded: Tensor, rows: Tensor, running: Running) -> None:
    """Takes new states ``(n, C)`` into the open groups."""
    if int(running.filled[rows].max()) >= running.members.shape[1]:
        running.members = torch.cat([running.members, torch.zeros_like(running.members)], 1)
    running.members[rows, running.filled[rows]] = encoded
    running.filled[rows] += 1
