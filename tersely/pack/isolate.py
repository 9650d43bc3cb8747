"""What a model's attention needs so that packed documents do not see each other: its mask, made once per batch.

transformers recognises packed rows by position ids that restart, but only while no cache and no mask is given; then
its layers see the whole row. A finished mask is used as it is, so one is made here, by transformers' own functions,
for the attention and the kinds of layers (sliding, chunked) that the model's configuration names:

    eager            additive, of the model's dtype, shape (1, 1, T, T)
    sdpa             boolean, (1, 1, T, T)
    flex_attention   a BlockMask
    flash attention  none: it reads cu_seq_lens_q and cu_seq_lens_k; so does "tersely"
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import get_worker_info

from tersely.errors import PackError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION_KINDS = {"full_attention", "sliding_attention", "chunked_attention"}


class Isolator:
    """Makes the masks of one model.

    Raises:
        PackError: the model is not a causal decoder with attention.

    Warns of kinds of layers that may carry state from one document to the next, which no mask can stop.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        _check(model)
        self._config = model.config.get_text_config()
        self._dtype = model.dtype
        self._model: PreTrainedModel | None = model
        self.accepted = _accepted_keys(model)

    def mask(self, position_ids: torch.Tensor) -> Any:
        """The mask, or the mask of each kind of layer, for position ids ``(1, T)``; None if none is needed.

        It is made on the CPU, to be moved with the batch; but a ``BlockMask`` cannot be moved or sent between
        processes, because it is a function over the boundaries, so it is made where the model is.

        Raises:
            PackError: a ``BlockMask`` is asked for in a worker process, or transformers makes no mask for this
                attention.
        """
        attention = str(getattr(self._config, "_attn_implementation", None))
        if "flash" in attention or attention == "tersely":
            return None
        if attention == "flex_attention":
            if get_worker_info() is not None or self._model is None:
                raise PackError(
                    "a flex_attention mask must be made where the model is, not in a worker process: "
                    "use num_workers=0, or attn_implementation='sdpa'"
                )
            position_ids = position_ids.to(self._model.device)
        from transformers.masking_utils import create_masks_for_generate

        template = torch.empty((*position_ids.shape, 1), dtype=self._dtype, device=position_ids.device)
        masks = create_masks_for_generate(self._config, template, None, None, position_ids=position_ids)
        kinds = masks if isinstance(masks, dict) else {"full_attention": masks}
        several = int((position_ids == 0).sum()) > 1
        if several and any(mask is None for kind, mask in kinds.items() if kind in _ATTENTION_KINDS):
            raise PackError(
                f"transformers makes no mask for the attention {attention!r} of this model, so documents would see "
                "each other: use eager, sdpa, flex_attention or a flash attention"
            )
        return masks

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes are not sent the model."""
        return self.__dict__ | {"_model": None}


def _accepted_keys(model: PreTrainedModel) -> set[str] | None:
    """The keyword arguments of the model's forward, or None if it takes any."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters}


def _check(model: PreTrainedModel) -> None:
    causal = any(getattr(module, "is_causal", False) for module in model.modules())
    if model.config.is_encoder_decoder or not causal:
        raise PackError(
            f"{type(model).__name__} has an encoder, or attention that does not say that it is causal: PackedCollator "
            "packs for decoders whose attention modules have is_causal set"
        )
    config = model.config.get_text_config()
    if getattr(config, "alibi", False):
        raise PackError(
            f"{type(model).__name__} uses ALiBi, which counts positions over the whole row: it cannot be packed"
        )
    if getattr(config, "output_router_logits", False):
        raise PackError(
            f"{type(model).__name__} has output_router_logits set, whose loss wants a 2-D mask that packed rows do not "
            "have: set config.output_router_logits = False"
        )
    others = set(getattr(config, "layer_types", None) or ()) - _ATTENTION_KINDS
    if others:
        warnings.warn(
            f"{type(model).__name__} has {', '.join(sorted(others))} layers, which may carry state from one document "
            "to the next: run tersely.pack.check_isolation(model) before you train on packed rows",
            stacklevel=4,
        )
