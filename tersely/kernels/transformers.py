"""``attn_implementation="tersely"``: packed attention for models of transformers, by its public registry.

    padded batch       a a . .      layers get    1 1 0 0      documents as numbers, 0 for padding
    (B, L)             b b b .                    1 1 1 0
    packed row         a a b b b                  1 1 2 2 2

transformers makes a mask once for each forward; ours is this table of numbers. The attention of each layer reads the
batch as one row of ``B * L`` tokens whose documents are those numbers, and padding as tokens that see nothing: so a
padded batch costs what its documents cost, without unpadding copies and without waiting for the device, and packed rows
are kept apart with a cache or without, with an all-ones mask or none.

Legend: ``B`` rows, ``L`` queries and ``K`` keys of a row, ``H`` heads, ``D`` head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tersely.errors import KernelError
from tersely.kernels.attention.attention import recent, varlen_attention
from tersely.kernels.attention.boundaries import Boundaries

NAME = "tersely"
FEW_QUERIES = 16
"""Below as many queries a row that reads a cache goes through masked attention: its tile would be mostly empty."""


def register_with_transformers(name: str = NAME) -> None:
    """Makes ``attn_implementation="tersely"`` known to transformers, for training and inference.

    Both registrations are needed: of the attention, and of the mask, without which transformers makes none and padding
    would be seen. Nothing of transformers or of a model is changed. Registering again does no harm.

    Packed rows are recognised by ``cu_seq_lens_q`` (as ``tersely.pack.PackedCollator`` gives it) or by position ids that
    start again; under ``torch.compile`` by the first only in models whose layers are not handed position ids. Or make
    ``Boundaries`` yourself and give them to the model as ``boundaries`` (a tuple of them, where layers have windows): a
    prefix tree, or what a compiled or captured forward would else make again in each layer.

    In fp32 the reference runs, which is exact and slow: load the model in bf16 for speed.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, document_numbers)


def document_numbers(
    *,
    kv_length: int,
    q_offset: int | Tensor = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    config: Any = None,
    **_: Any,
) -> Tensor | None:
    """The mask of one kind of layers: ``(B, n)`` numbers of documents, 0 for padding; None where there is one only.

    Raises:
        KernelError: the mask is more than causal, sliding or packed, or has holes between real tokens.
    """
    if getattr(config, "attention_chunk_size", None):
        raise KernelError("this model attends in chunks, which packed attention does not know: use sdpa")
    packed = _packed_numbers(mask_function)
    if attention_mask is None:
        if packed is None and isinstance(q_offset, Tensor):
            raise KernelError(
                "a static cache needs an attention_mask that says which keys are there: give one"
            )
        return packed
    mask = attention_mask[:, -kv_length:]
    if not torch.compiler.is_compiling() and bool(
        ((mask[:, 1:] > mask[:, :-1]).sum(1) + mask[:, 0] > 1).any()
    ):
        raise KernelError(
            "attention_mask has padding between real tokens: move it to one end of each row, or use sdpa"
        )
    return mask if packed is None else packed * mask


_KNOWN = (
    "causal_mask",
    "bidirectional_mask",
    "sliding_window",
    "and_masks",
    "packed_sequence",
    "remap_positions",
)


def _packed_numbers(mask_function: Callable[..., Any] | None) -> Tensor | None:
    """Numbers of documents that transformers found in position ids, and a check that nothing else is in the mask."""
    if mask_function is None:
        return None
    name = mask_function.__code__.co_qualname
    if not name.startswith(_KNOWN):
        raise KernelError(
            f"this model masks with transformers' {name}, which packed attention does not know: use sdpa"
        )
    if torch.compiler.is_compiling():  # closures are closed to it
        return None
    numbers = None
    for cell in mask_function.__closure__ or ():
        inner = cell.cell_contents
        if callable(inner):
            inner = (inner,)
        if isinstance(inner, tuple):
            found = [_packed_numbers(function) for function in inner if callable(function)]
            numbers = next((x for x in found if x is not None), numbers)
        elif isinstance(inner, Tensor) and name.startswith("packed_sequence_mask"):
            numbers = inner + 1
    return numbers


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer.

    Args:
        module: the layer's attention, whose ``is_causal`` counts where the argument is None.
        query: ``(B, H, L, D)``.
        key: ``(B, KH, K, D)``.
        value: ``(B, KH, K, D)``, or narrower.
        attention_mask: what ``document_numbers`` made.
        dropout: must be 0.
        scaling: factor of the products.
        sliding_window: keys that a query sees to the left, its own included.
        softcap: bound of the scores.
        is_causal: no key after its query.
        s_aux: sinks, ``(H,)``.
        kwargs: ``boundaries``, ``cu_seq_lens_q`` and ``position_ids``, where the model hands them down.

    Returns:
        ``(B, L, H, D)``.

    Raises:
        KernelError: dropout of attention weights, or a mask that is not ours.
    """
    if dropout:
        raise KernelError(
            "packed attention has no dropout of its weights: set attention_dropout to 0 in the config"
        )
    if attention_mask is not None and attention_mask.dim() != 2:
        raise KernelError(
            f"the mask has shape {tuple(attention_mask.shape)}, but packed attention is told boundaries: give a 2-D mask, "
            "position ids that start again, or cu_seq_lens_q"
        )
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    side = -1 if sliding_window is None else sliding_window - 1
    window = (side, 0 if causal and side >= 0 else side)
    (batch, heads, queries, _), (keys, width) = query.shape, value.shape[2:]
    if queries < FEW_QUERIES and queries != keys and kwargs.get("boundaries") is None:
        seen = _seen(attention_mask, batch, queries, keys, query.device, causal, window)
        return _masked(query, key, value, seen, scaling, softcap, s_aux), None
    bounds = _boundaries(attention_mask, batch, queries, keys, causal, window, query.device, kwargs)
    if width < query.shape[3]:
        value = torch.nn.functional.pad(value, (0, query.shape[3] - width))
    q, k, v = (x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3]) for x in (query, key, value))
    out = varlen_attention(q, k, v, bounds, scale=scaling, softcap=softcap or 0.0, sink=s_aux)
    return out.view(batch, queries, heads, -1)[..., :width], None


def _boundaries(
    mask: Tensor | None, batch: int, queries: int, keys: int, causal: bool, window: tuple[int, int],
    device: torch.device, kwargs: dict[str, Any],
) -> Boundaries:  # fmt: skip
    """Boundaries of the batch as one row, from whatever says them; the layers share what one of them made."""
    if kwargs.get("boundaries") is not None:
        return _given(kwargs["boundaries"], batch * queries, batch * keys, causal, window)
    cu_seqlens = kwargs.get("cu_seq_lens_q")
    if cu_seqlens is not None and queries == keys:
        return recent(
            (cu_seqlens,), (batch * queries, causal, window),
            lambda: Boundaries.from_cu_seqlens(cu_seqlens, batch * queries, causal=causal, window=window),
        )  # fmt: skip
    positions = kwargs.get("position_ids")
    if positions is not None and positions.dim() == 2 and positions.shape[1] == queries == keys:
        whole = mask if mask is not None and mask.shape[1] == keys else None
        if (whole is None) == (mask is None):
            return recent(
                (positions, whole), (batch, causal, window),
                lambda: Boundaries.from_position_ids(
                    positions.expand(batch, -1), _documents_apart(whole), causal=causal, window=window
                ),
            )  # fmt: skip
    if mask is not None and queries == keys == mask.shape[1] and causal:
        return recent(
            (mask,),
            (causal, window),
            lambda: Boundaries.from_document_ids(mask, causal=causal, window=window),
        )

    def padded() -> Boundaries:
        real = torch.ones(batch, keys, dtype=torch.bool, device=device) if mask is None else mask != 0
        return Boundaries.from_padded(real, queries, keys, causal=causal, window=window)

    return recent((mask,), (batch, queries, keys, causal, window, str(device)), padded)


def _given(
    boundaries: Boundaries | tuple[Boundaries, ...], queries: int, keys: int, causal: bool, window: tuple[int, int]
) -> Boundaries:  # fmt: skip
    """Those of the caller's that are this layer's."""
    sides = (window[0], 0 if causal else window[1])
    for given in (boundaries,) if isinstance(boundaries, Boundaries) else boundaries:
        if given.sides == sides:
            if given.key_start.shape[0] == queries and given.query_start.shape[0] == keys:
                return given
            raise KernelError(
                f"boundaries are of {given.key_start.shape[0]} queries and {given.query_start.shape[0]} keys, but a layer has "
                f"{queries} and {keys}: make them for this batch, and give no cache"
            )
    raise KernelError(
        f"a layer whose queries see {sides} keys to their sides (-1: all) has none among the boundaries given: make them with "
        f"causal={causal}, window={window}"
    )


def _documents_apart(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask != 0


def _seen(
    mask: Tensor | None, batch: int, queries: int, keys: int, device: torch.device, causal: bool, window: tuple[int, int]
) -> Tensor:  # fmt: skip
    """Which keys of its row each query sees, ``(B, 1, L, K)``."""
    real = torch.ones(batch, keys, dtype=torch.bool, device=device) if mask is None else mask != 0
    last = real.shape[1]
    key = torch.arange(keys, device=device)
    own = torch.arange(last - queries, last, device=device)[:, None]
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device)
    if causal:
        seen &= key <= own
    if window[0] >= 0:
        seen &= key >= own - window[0]
    if window[1] >= 0:
        seen &= key <= own + window[1]
    return seen & torch.nn.functional.pad(real, (0, keys - last))[:, None, None]


def _masked(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scaling: float | None, softcap: float | None, sink: Tensor | None
) -> Tensor:  # fmt: skip
    """Attention of a few queries over a cache: reading the cache is all it costs."""
    group = query.shape[1] // key.shape[1]
    if not softcap and sink is None:
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, scale=scaling, enable_gqa=group > 1
        )
        return out.transpose(1, 2)
    scale = query.shape[3] ** -0.5 if scaling is None else scaling
    x = (query @ key.repeat_interleave(group, 1).transpose(2, 3)).float() * scale
    x = softcap * torch.tanh(x / softcap) if softcap else x
    x = x.masked_fill(~seen, float("-inf"))
    if sink is not None:
        x = torch.cat([x, sink.float()[None, :, None, None].expand(*x.shape[:3], 1)], -1)
    p = x.softmax(-1)[..., : key.shape[2]].to(value.dtype)
    return (p @ value.repeat_interleave(group, 1)).transpose(1, 2)
