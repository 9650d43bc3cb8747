"""The attention of packed rows, as transformers calls it in each layer; who sees whom is said by the call of the model.

Registered once under a name of its own. A model that runs with it is handed a ``Guide`` as a keyword argument, which
transformers passes down to its attention; a model that loses it on the way is refused there, so that nothing is ever
computed with a wrong mask.

Legend: ``T`` tokens of the row, ``H`` query heads, ``KH`` key heads, ``D`` head dimension.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from tersely.errors import PackError
from tersely.kernels.transformers import document_numbers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "tersely-packed"
GUIDE = "tersely_guide"


class Guide(Protocol):
    """Attention of one call of the model."""

    calls: int
    """How many layers have attended."""

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *,
        causal: bool, scale: float, window: int, softcap: float, sink: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """``(T, H, D)`` from queries ``(T, H, D)``, keys and values ``(T, KH, D)``; ``window`` -1 is none."""
        ...


@contextmanager
def packed_attention(model: PreTrainedModel) -> Generator[None]:
    """Within it the model attends by guides, and is in evaluation mode; after it, it is as it was."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, document_numbers)
    modules = list(model.modules())  # a walk takes as long as a layer of a small batch
    configs: dict[int, Any] = {id(m.config): m.config for m in modules if hasattr(m, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    training = [module for module in modules if module.training]
    try:
        model.set_attn_implementation(NAME)
        for module in training:
            module.training = False
        yield
    finally:
        for config, attention in before:
            config._attn_implementation = attention
        for module in training:
            module.training = True


def _attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, sliding_window: int | None = None,
    softcap: float | None = None, is_causal: bool | None = None, s_aux: Tensor | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers calls: ``(1, H, T, D)`` queries, ``(1, KH, T, D)`` keys, ``(1, T, H, D)`` back."""
    guide: Guide | None = kwargs.get(GUIDE)
    if guide is None:
        raise PackError(
            f"{type(module).__name__} is not handed the keyword arguments of its model, so nothing tells it where prompts "
            "begin: run the prompts one by one"
        )
    width = value.shape[3]
    if width < query.shape[3]:
        value = torch.nn.functional.pad(value, (0, query.shape[3] - width))
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    guide.calls += 1
    out = guide.attend(
        int(getattr(module, "layer_idx", guide.calls - 1)), q, k, v,
        causal=bool(getattr(module, "is_causal", True) if is_causal is None else is_causal),
        scale=query.shape[3] ** -0.5 if scaling is None else scaling,
        window=-1 if sliding_window is None else sliding_window - 1,
        softcap=softcap or 0.0, sink=s_aux,
    )  # fmt: skip
    return out[None, ..., :width], None
