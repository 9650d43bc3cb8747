"""generate: ids after prompts, for all of them at once, each until it ends.

Legend: ``T`` packed ids, ``N`` prompts, ``n`` of them that have not ended, ``C`` width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tersely.compress.merge.lm import running
from tersely.compress.merge.lm.config import END
from tersely.errors import UsageError
from tersely.kernels import Boundaries
from tersely.kernels.segment import positions_of_tokens
from tersely.layers import Stack, StackCache
from tersely.ragged import Ragged

if TYPE_CHECKING:
    from tersely.compress.merge.lm.model import MergingLM


@torch.no_grad()
def generate(
    model: MergingLM,
    input_ids: Tensor,
    cu_seqlens: Tensor,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Ragged:
    """See ``MergingLM.generate``."""
    lengths = cu_seqlens.diff()
    if not len(lengths):
        return Ragged(torch.empty(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    if int(lengths.min()) < 1 or int(cu_seqlens[-1]) != len(input_ids):
        raise UsageError(
            f"prompts of {lengths.tolist()} ids, of {len(input_ids)} in all, cannot be continued: give each at least "
            f"the id {END}, and no ids after the last"
        )
    if temperature < 0:
        raise UsageError(f"temperature {temperature} must not be negative: 0 takes the most probable id")
    states, state = _prefill(model, input_ids, cu_seqlens)
    rows = torch.arange(len(lengths), device=input_ids.device)
    chosen = torch.full((len(lengths), max_new_tokens), -1, device=input_ids.device)
    generator = torch.Generator().manual_seed(seed)
    for place in range(max_new_tokens):
        drawn = torch.rand(len(lengths), generator=generator).to(rows.device)[rows]
        ids = _choose(model.head(states), temperature, drawn)
        chosen[rows, place] = ids
        goes_on = ids != END
        rows, ids = rows[goes_on], ids[goes_on]
        if not len(rows) or place == max_new_tokens - 1:
            break
        states = _step(model, ids, rows, state)
    made = chosen.cpu()
    offsets = torch.cat([made.new_zeros(1), (made >= 0).sum(1).cumsum(0)])
    return Ragged(made[made >= 0], offsets)


def _prefill(
    model: MergingLM, input_ids: Tensor, cu_seqlens: Tensor
) -> tuple[Tensor, StackCache | running.Running]:
    """The last states ``(N, C)`` of the prompts, and how to go on."""
    x, last = model.embedding(input_ids), cu_seqlens[1:].long() - 1
    if not isinstance(model.body, Stack):
        merged, state = running.begin(model.body, x, cu_seqlens, input_ids)
        return merged.states[last], state
    longest = int(cu_seqlens.diff().max())
    cache = model.body.cache(len(last), longest + 1)
    cache.begin(cu_seqlens, longest)
    bounds = Boundaries.from_cu_seqlens(cu_seqlens, len(x), causal=True)
    return model.body(x, bounds, positions_of_tokens(cu_seqlens, len(x)), cache)[last], cache


def _step(model: MergingLM, ids: Tensor, rows: Tensor, state: StackCache | running.Running) -> Tensor:
    """The states ``(n, C)`` at the new ids."""
    x = model.embedding(ids)
    if isinstance(model.body, Stack):
        assert isinstance(state, StackCache)
        return model.body.step(x, state, rows)
    assert isinstance(state, running.Running)
    return running.step(model.body, x, ids, rows, state)


def _choose(logits: Tensor, temperature: float, drawn: Tensor) -> Tensor:
    """The most probable id, or the one at ``drawn`` ``(n,)``, in [0, 1), of the distribution."""
    if not temperature:
        return logits.argmax(-1)
    sums = (logits.double() / temperature).softmax(-1).cumsum(-1)
    place = (drawn.double() * sums[:, -1])[:, None]
    return torch.searchsorted(sums, place, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
