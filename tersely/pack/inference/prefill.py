"""Packed prefill: prompts of different lengths in few rows without padding, and a KV cache for each of them.

After "Prepacking" (arXiv 2404.09529), section 3: prompts are packed, run once with restarted positions and attention
inside each, and what the layers cached is split. Here rows are as long as what they hold, beginnings that prompts share
are computed once, only the logits that are asked for are computed, and a cache is cut out when it is looked at.

Legend: ``N`` prompts, ``V`` vocabulary, ``T`` tokens of a row, ``KH`` key heads, ``D`` head dimension.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache

from tersely.errors import PackError
from tersely.pack.inference.attention import packed_attention
from tersely.pack.inference.forward import RowCache, run_row
from tersely.pack.inference.prompts import Ids, prompt_ids
from tersely.pack.inference.rows import Row, plan_rows
from tersely.pack.inference.support import Traits, check_decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKEN_BUDGET = {"cuda": 16384, "cpu": 1024}
"""Tokens of a row where none are given: enough to fill a GPU; on a CPU, few enough to stay in its cache."""


@dataclass(frozen=True)
class PrefillReport:
    """What was computed, and what padding would have cost.

    Attributes:
        prompts: how many.
        tokens: their tokens.
        computed_tokens: tokens that went through the model.
        shared_tokens: tokens that did not, because another prompt begins alike.
        padded_tokens: tokens of one batch padded to the longest prompt.
        rows: how often the model ran.
        alone: numbers of the prompts that are longer than the budget, or than the model can take together with others.
    """

    prompts: int
    tokens: int
    computed_tokens: int
    shared_tokens: int
    padded_tokens: int
    rows: int
    alone: tuple[int, ...]

    @property
    def padding_ratio(self) -> float:
        """Tokens of the padded batch for each one computed."""
        return self.padded_tokens / self.computed_tokens

    def __str__(self) -> str:
        shared = f", {self.shared_tokens:,} shared" if self.shared_tokens else ""
        alone = (
            f"; alone, for their length: prompts {', '.join(map(str, self.alone[:8]))}"
            + (f" and {len(self.alone) - 8} more" if len(self.alone) > 8 else "")
            if self.alone
            else ""
        )
        return (
            f"{self.prompts:,} prompts, {self.tokens:,} tokens{shared}; {self.computed_tokens:,} computed in {self.rows:,} "
            f"rows, {self.padding_ratio:.2f} times as many padded{alone}"
        )


class PromptCaches(Sequence[Cache]):
    """The KV cache of each prompt, cut out of its row when it is looked at.

    A cache is a ``DynamicCache`` of batch size 1, as the model itself would have filled it: layers with a sliding window
    keep its last tokens only. A prompt that shares nothing is a view of its row; going on with it leaves the row as it is.

    Attributes:
        rows: the rows, and the cache of each.
    """

    def __init__(self, config: Any, rows: Sequence[tuple[Row, RowCache]], prompts: int) -> None:
        self._config = config
        self.rows = rows
        self._where = [(0, 0)] * prompts
        for number, (row, _) in enumerate(rows):
            for branch, of in enumerate(row.branches):
                for prompt in of.prompts:
                    self._where[prompt] = number, branch

    def __len__(self) -> int:
        return len(self._where)

    @overload
    def __getitem__(self, index: int) -> Cache: ...
    @overload
    def __getitem__(self, index: slice) -> list[Cache]: ...
    def __getitem__(self, index: int | slice) -> Cache | list[Cache]:
        """The cache of prompt ``index``."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, branch = self._where[index]
        row, states = self.rows[number]
        cache = DynamicCache(config=self._config)
        sources: list[Any] = states.layers
        for layer, source in zip(cache.layers, sources, strict=True):
            _fill(layer, *(_cut(x, row, branch) for x in (source.keys, source.values)))
        return cache


def _cut(states: Tensor, row: Row, branch: int) -> Tensor:
    """``(1, KH, length, D)`` of one prompt out of ``(1, KH, T, D)``."""
    spans = [states[:, :, start:stop] for start, stop in row.paths[branch]]
    return spans[0] if len(spans) == 1 else torch.cat(spans, 2)


def _fill(layer: Any, keys: Tensor, values: Tensor) -> None:
    """Gives a layer the states of a prompt, as an update of the layer alone would have left them."""
    length = keys.shape[2]
    layer.lazy_initialization(keys, values)
    window = getattr(layer, "sliding_window", None)
    kept = slice(None) if window is None else slice(max(0, length - window + 1), None)
    layer.keys, layer.values = keys[:, :, kept], values[:, :, kept]
    if hasattr(layer, "cumulative_length"):
        layer.cumulative_length = length


@dataclass(frozen=True)
class Prefilled:
    """What ``prefill`` computed.

    Attributes:
        caches: a transformers ``Cache`` for each prompt.
        logits: ``(N, V)``, of each prompt's last token.
        all_logits: ``(length, V)`` for each prompt, if asked for.
        hidden_states: ``(length, hidden)`` for each prompt, those of the last layer, if asked for.
        report: what was computed.
    """

    caches: PromptCaches
    logits: Tensor
    all_logits: list[Tensor] | None
    hidden_states: list[Tensor] | None
    report: PrefillReport

    def __len__(self) -> int:
        return len(self.caches)


def prefill(
    model: PreTrainedModel,
    prompts: Any,
    *,
    token_budget: int | None = None,
    attention_mask: Any = None,
    all_logits: bool = False,
    hidden_states: bool = False,
    share_prefixes: bool = True,
) -> Prefilled:
    """Runs prompts of different lengths through a causal language model without padding.

    Args:
        model: of transformers, any that attends through its attention interface, with any ``attn_implementation``: for
            the time of the call it has tersely's. It is left as it was.
        prompts: lists of ids, a ``Ragged``, a padded batch with its mask, or what a tokenizer returned.
        token_budget: tokens that go through the model at once; by default 16,384 on a GPU, 1,024 on a CPU. A prompt
            that is longer runs alone.
        attention_mask: ``(N, L)``, of a padded batch: 1 for tokens, 0 for padding.
        all_logits: also give the logits of all tokens.
        hidden_states: also give the last hidden states of all tokens.
        share_prefixes: compute beginnings of 16 tokens or more that prompts share once.

    Raises:
        PackError: the prompts are empty or do not fit their mask, or the model cannot run on packed rows.
    """
    traits = check_decoder(model)
    ids = prompt_ids(prompts, attention_mask=attention_mask)
    rows = rows_of(model, traits, ids, token_budget, share_prefixes)
    done = list[tuple[Row, RowCache]]()
    found = dict[int, dict[str, Tensor]]()
    with packed_attention(model), torch.no_grad():
        for row in rows:
            cache = RowCache()
            keep = None if all_logits else torch.from_numpy(row.last).to(model.device)
            with last_hidden_states(model) as hidden:
                logits = run_row(model, traits, row, keep=keep, cache=cache).logits[0]
            done.append((row, cache))
            for number, branch in enumerate(row.branches):
                own = {"last": logits[int(row.last[number]) if all_logits else number]}
                if all_logits or hidden_states:
                    places = torch.from_numpy(row.places(number)).to(model.device)
                    own |= {"every": logits[places]} if all_logits else {}
                    own |= {"states": hidden[0][0][places]} if hidden_states else {}
                for prompt in branch.prompts:
                    found[prompt] = own
    numbers = range(len(ids))
    return Prefilled(
        caches=PromptCaches(model.config, done, len(ids)),
        logits=torch.stack([found[i]["last"] for i in numbers]),
        all_logits=[found[i]["every"] for i in numbers] if all_logits else None,
        hidden_states=[found[i]["states"] for i in numbers] if hidden_states else None,
        report=report_of(ids, rows, token_budget_of(model, token_budget), traits),
    )


def token_budget_of(model: PreTrainedModel, token_budget: int | None) -> int:
    """The budget that was given, or the one of the model's device."""
    return TOKEN_BUDGET.get(model.device.type, 1024) if token_budget is None else token_budget


def rows_of(
    model: PreTrainedModel, traits: Traits, ids: Sequence[Ids], token_budget: int | None, share: bool = True
) -> list[Row]:
    """The rows that compute these prompts with this model.

    Raises:
        PackError: an id is outside the model's vocabulary.
    """
    embeddings: Any = model.get_input_embeddings()
    vocabulary = int(embeddings.num_embeddings)
    for number, prompt in enumerate(ids):
        if not 0 <= prompt.min() <= prompt.max() < vocabulary:
            raise PackError(
                f"prompt {number} has ids from {prompt.min()} to {prompt.max()}, but {type(model).__name__} knows those below "
                f"{vocabulary}: use the model's own tokenizer"
            )
    return plan_rows(
        ids, token_budget_of(model, token_budget), share=share,
        first_position=traits.first_position, longest_together=traits.longest_together,
    )  # fmt: skip


def report_of(ids: Sequence[Ids], rows: Sequence[Row], token_budget: int, traits: Traits) -> PrefillReport:
    """What these rows compute of these prompts."""
    tokens, computed = sum(map(len, ids)), sum(row.tokens for row in rows)
    limit = min(token_budget, traits.longest_together or token_budget)
    return PrefillReport(
        prompts=len(ids),
        tokens=tokens,
        computed_tokens=computed,
        shared_tokens=tokens - computed,
        padded_tokens=len(ids) * max(map(len, ids)),
        rows=len(rows),
        alone=tuple(number for number, prompt in enumerate(ids) if len(prompt) > limit),
    )


@contextmanager
def last_hidden_states(model: PreTrainedModel) -> Generator[list[Tensor]]:
    """Within it, what the body of the model gives to its head is put into the list."""
    found = list[Tensor]()

    def keep(_: nn.Module, __: Any, out: Any) -> None:
        found.append(out.last_hidden_state)

    handle = model.base_model.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
