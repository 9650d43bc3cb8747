"""One packed row through the model: attention inside each prompt, keys and values kept as the layers make them.

Legend: ``T`` tokens of the row, ``H`` query heads, ``KH`` key heads, ``D`` head dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from tersely.errors import PackError
from tersely.kernels import varlen_attention
from tersely.kernels.attention.one import attend_one
from tersely.pack.inference.attention import GUIDE
from tersely.pack.inference.rows import Row
from tersely.pack.inference.support import Traits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def runs_kernels(q: Tensor) -> bool:
    """Whether fused kernels attend to these queries; else torch does, prompt after prompt."""
    return q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)


class RowGuide:
    """Attention inside the prompts of a row; a branch reads the keys of its path."""

    def __init__(self, row: Row, device: torch.device) -> None:
        self.calls = 0
        self._queries = row.cu_seqlens
        self._keys, self._places = row.cu_seqlens, None
        if row.shares:
            places = [row.places(branch) for branch in range(len(row.branches))]
            self._keys = np.cumsum([0, *map(len, places)])
            self._places = torch.from_numpy(np.concatenate(places)).to(device)
        self._cu_seqlens = tuple(
            torch.from_numpy(x.astype(np.int32)).to(device) for x in (self._queries, self._keys)
        )

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *,
        causal: bool, scale: float, window: int, softcap: float, sink: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """See ``Guide``."""
        if self._places is not None:
            k, v = k[self._places], v[self._places]
        if runs_kernels(q):
            return varlen_attention(
                q, k, v, *self._cu_seqlens,
                causal=causal, scale=scale, window=(window, 0 if causal and window >= 0 else window), softcap=softcap,
                sink=sink,
            )  # fmt: skip
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        for i in range(len(self._queries) - 1):
            rows = slice(*self._queries[i : i + 2].tolist())
            keys = slice(*self._keys[i : i + 2].tolist())
            out[rows] = attend_one(
                q[rows],
                k[keys],
                v[keys],
                causal=causal,
                scale=scale,
                window=window,
                softcap=softcap,
                sink=sink,
            )
        return out


class RowLayer(CacheLayerMixin):
    """Keeps the keys and values of a whole row, ``(1, KH, T, D)``, as one layer made them."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is allocated: the layer's own tensors are kept."""
        self.keys, self.values = key_states, value_states
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keeps them and gives them back."""
        self.lazy_initialization(key_states, value_states)
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys of the row, and none before it."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Nothing comes before a row."""
        return 0

    def get_max_length(self) -> int:
        """No bound."""
        return -1


class RowCache(Cache):
    """A cache that holds one row."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=RowLayer)


def run_row(
    model: PreTrainedModel,
    traits: Traits,
    row: Row,
    *,
    keep: Tensor | None = None,
    cache: Cache | None = None,
) -> Any:
    """The model's output for one row, inside ``packed_attention``.

    Args:
        model: the model, or only its body.
        traits: what it asks for.
        row: the prompts.
        keep: places of the row whose logits are wanted, ascending, by default all.
        cache: takes keys and values.

    Raises:
        PackError: some layers did not attend, so the row would be wrong.
    """
    device = model.device
    guide = RowGuide(row, device)
    arguments: dict[str, Any] = {GUIDE: guide}
    if cache is not None:
        arguments |= dict(past_key_values=cache, use_cache=True)
    elif traits.accepts("use_cache"):
        arguments["use_cache"] = False
    if keep is not None and traits.accepts("logits_to_keep"):
        arguments["logits_to_keep"] = keep
    out = model(
        input_ids=row.input_ids(device), position_ids=row.position_ids(device), **arguments, return_dict=True
    )
    check_calls(model, traits, guide.calls)
    if keep is not None and out.logits.shape[1] != len(keep):  # a model that gives all of them in any case
        out.logits = out.logits[:, keep]
    return out


def check_calls(model: PreTrainedModel, traits: Traits, calls: int) -> None:
    """Refuses a model of which some layers mix tokens by other means than attention."""
    if calls != traits.layers:
        raise PackError(
            f"{calls} of the {traits.layers} layers of {type(model).__name__} attended, so the others may carry state from "
            "one prompt to the next: run its prompts one by one"
        )
