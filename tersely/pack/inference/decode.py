"""Decoding of many prompts at once: one token of each in a row, and caches that are as long as their prompts.

All caches of a layer stand in one tensor, each with a little room at its end, so a step writes its keys in place and reads
what is there: nothing is padded to the longest prompt or copied in each step. When the room of a prompt is used up, all
move into a new tensor, and those of finished prompts are left behind.

    layer    p p p p n n . .  q q n n . .  r r r r r r r n n . .         prompts p, q, r, new tokens n, room .

Legend: ``n`` prompts still running, ``C`` places of the storage, ``H`` query heads, ``KH`` key heads, ``D`` head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from tersely.errors import PackError
from tersely.kernels import decode_attention
from tersely.pack.inference.attention import GUIDE
from tersely.pack.inference.forward import RowCache, RowLayer, check_calls
from tersely.pack.inference.prompts import Ids
from tersely.pack.inference.rows import Row
from tersely.pack.inference.support import Traits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROOM = 64
"""New tokens that storage is made for at a time."""


class StoredLayer(RowLayer):
    """The caches of one layer, ``(C, KH, D)``; ``update`` writes one token of each running prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Writes ``(1, KH, n, D)`` where the step says, and gives them back."""
        assert self.keys is not None
        assert self.values is not None
        self.keys[self.slots] = key_states[0].transpose(0, 1)
        self.values[self.slots] = value_states[0].transpose(0, 1)
        return key_states, value_states


class DecodingCaches:
    """The caches of all prompts, and the steps of decoding.

    Args:
        model: the model; inside ``packed_attention``.
        traits: what it asks for.
        lengths: tokens of each prompt.
        limits: new tokens of each prompt, at most.
    """

    def __init__(
        self, model: PreTrainedModel, traits: Traits, lengths: Sequence[int], limits: Sequence[int]
    ) -> None:
        self._model = model
        self._traits = traits
        self.lengths = np.array(lengths, dtype=np.int64)
        room = np.minimum(ROOM, np.array(limits, dtype=np.int64))
        self._start, self._places = _layout(self.lengths, room)
        self._end = self._start + self.lengths + room
        self._layers = list[Any]()
        self._cache = Cache(layers=self._layers)

    def take(self, row: Row, cache: RowCache) -> None:
        """Copies the caches of a row's prompts to their places, and drops them there."""
        numbers = [(p, i) for i, branch in enumerate(row.branches) for p in branch.prompts]
        source = np.concatenate([row.places(branch) for _, branch in numbers])
        target = np.concatenate([np.arange(self.lengths[p]) + self._start[p] for p, _ in numbers])
        read, write = (torch.from_numpy(x).to(self._model.device) for x in (source, target))
        for number, layer in enumerate(cache.layers):
            if len(self._layers) <= number:
                self._layers.append(self._empty(layer, self._places))
            stored = self._layers[number]
            for name in ("keys", "values"):
                getattr(stored, name)[write] = getattr(layer, name)[0].transpose(0, 1)[read]
        cache.layers.clear()

    def step(self, running: Ids, tokens: Tensor) -> Tensor:
        """Runs one more token of each running prompt.

        Args:
            running: numbers of the prompts, ``(n,)``.
            tokens: ``(n,)``, on the device.

        Returns:
            Logits ``(n, vocabulary)``.
        """
        if (self._start[running] + self.lengths[running] >= self._end[running]).any():
            self._move(running)
        start, length = self._start[running], self.lengths[running]
        device = self._model.device
        positions = torch.from_numpy(length + self._traits.first_position).to(device)
        slots = torch.from_numpy(start + length).to(device)
        self.lengths[running] += 1
        for layer in self._layers:
            layer.slots = slots
        guide = StepGuide(self._layers, start, length + 1, device)
        out = self._model(
            input_ids=tokens[None], position_ids=positions[None], past_key_values=self._cache, use_cache=True,
            return_dict=True, **{GUIDE: guide},
        )  # fmt: skip
        check_calls(self._model, self._traits, guide.calls)
        return out.logits[0]

    def _move(self, running: Ids) -> None:
        """To storage with new room, for the running prompts only."""
        lengths = self.lengths[running]
        room = np.maximum(ROOM, lengths // 8)
        start, places = _layout(lengths, room)
        source = np.concatenate(
            [np.arange(n) + s for n, s in zip(lengths, self._start[running], strict=True)]
        )
        target = np.concatenate([np.arange(n) + s for n, s in zip(lengths, start, strict=True)])
        read, write = (torch.from_numpy(x).to(self._model.device) for x in (source, target))
        for layer in self._layers:
            fresh = self._empty(layer, places)
            for name in ("keys", "values"):
                getattr(fresh, name)[write] = getattr(layer, name)[read]
                setattr(layer, name, getattr(fresh, name))
        self._start[running] = start
        self._end[running] = start + lengths + room

    @staticmethod
    def _empty(like: Any, places: int) -> StoredLayer:
        layer = StoredLayer()
        shapes = [
            (places, *(x.shape[-3::2] if x.dim() == 4 else x.shape[1:])) for x in (like.keys, like.values)
        ]
        keys, values = (x.new_empty(shape) for x, shape in zip((like.keys, like.values), shapes, strict=True))
        layer.lazy_initialization(keys, values)
        return layer


def _layout(lengths: Ids, room: Ids) -> tuple[Ids, int]:
    """Where each cache begins, and the places of all."""
    ends = np.cumsum(lengths + room)
    return np.concatenate([[0], ends[:-1]]), int(ends[-1])


class StepGuide:
    """Attention of one token of each running prompt over its own cache."""

    def __init__(self, layers: Sequence[Any], start: Ids, length: Ids, device: torch.device) -> None:
        self.calls = 0
        self._layers = layers
        self._start, self._length = (torch.from_numpy(x).to(device, torch.int32) for x in (start, length))
        self._longest = int(length.max())

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *,
        causal: bool, scale: float, window: int, softcap: float, sink: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """See ``Guide``."""
        stored = self._layers[layer]
        if stored.keys.shape[1:] != k.shape[1:] or stored.values.shape[1:] != v.shape[1:]:
            raise PackError(
                f"layer {layer} caches states of shape {tuple(stored.keys.shape[1:])} where it attends to keys of "
                f"{tuple(k.shape[1:])} (a latent cache), which packed decoding does not know: decode with model.generate"
            )
        return decode_attention(
            q, stored.keys, stored.values, self._start, self._length,
            longest=self._longest, scale=scale, window=window, softcap=softcap, sink=sink,
        )  # fmt: skip
