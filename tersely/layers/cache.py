"""StackCache: keys and values of the layers of a Stack, for sequences that grow at their own pace.

Legend: ``N`` sequences, ``P`` places for each, ``H`` heads, ``D`` head dimension, ``n`` sequences of one step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tersely.kernels import decode_attention
from tersely.kernels.segment import positions_of_tokens, segments_of_tokens


class StackCache:
    """One storage for each layer, ``(N * P, H, D)``: sequence ``i`` begins at ``i * P``. It grows when it is full.

    Attributes:
        sequences: ``N``.
        lengths: int64, ``(N,)``, on the device: positions that each sequence has.
    """

    def __init__(
        self, layers: int, sequences: int, capacity: int, heads: int, size: int, dtype: torch.dtype, device: torch.device
    ) -> None:  # fmt: skip
        self.sequences = sequences
        self.lengths = torch.zeros(sequences, dtype=torch.int64, device=device)
        self._places, self._longest = max(capacity, 1), 0
        shape = (sequences * self._places, heads, size)
        self._keys, self._values = (
            [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)] for _ in range(2)
        )
        self._rows: Tensor | None = None

    def begin(self, cu_seqlens: Tensor, longest: int) -> None:
        """Makes room for packed sequences ``(N + 1,)``, of at most ``longest`` positions, whose layers ``fill`` it next."""
        self._reserve(longest)
        self._longest = longest
        self.lengths = cu_seqlens.diff().long()
        tokens = int(cu_seqlens[-1])
        self._rows = segments_of_tokens(cu_seqlens, tokens) * self._places + positions_of_tokens(
            cu_seqlens, tokens
        )

    def fill(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Takes keys and values ``(T, H, D)`` of the packed sequences that it was begun with."""
        assert self._rows is not None, "begin comes first"
        self._keys[layer][self._rows] = k[: len(self._rows)].to(self._keys[layer].dtype)
        self._values[layer][self._rows] = v[: len(self._rows)].to(self._values[layer].dtype)

    def open(self, rows: Tensor) -> Tensor:
        """A new position for each of these sequences ``(n,)``: where they stand, int64 ``(n,)``."""
        self._reserve(self._longest + 1)
        self._longest += 1
        positions = self.lengths[rows]
        self.lengths[rows] = positions + 1
        return positions

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, window: int) -> Tensor:
        """Takes the keys and values of the new positions and attends over each sequence, ``(n, H, D)``."""
        keys, values, start = self._keys[layer], self._values[layer], rows * self._places
        places = start + self.lengths[rows] - 1
        keys[places], values[places] = k.to(keys.dtype), v.to(values.dtype)
        return decode_attention(
            q.to(keys.dtype), keys, values, start, self.lengths[rows], longest=self._longest, window=window
        )

    def _reserve(self, places: int) -> None:
        """Room for as many places in each sequence."""
        if places <= self._places:
            return
        wanted = max(places, 2 * self._places)
        for storage in (self._keys, self._values):
            for number, old in enumerate(storage):
                new = old.new_zeros(self.sequences, wanted, *old.shape[1:])
                new[:, : self._places] = old.view(self.sequences, self._places, *old.shape[1:])
                storage[number] = new.flatten(0, 1)
        self._places = wanted
