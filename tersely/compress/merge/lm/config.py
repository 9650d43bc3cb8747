"""MergingLMConfig: the shape of a MergingLM."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

VOCABULARY = 257
"""Bytes, and one id for where documents begin and end."""
END = 256
"""The id of the beginning and the end of a document."""


class MergingLMConfig(PretrainedConfig):
    """What a MergingLM is built from.

    Args:
        width: of the layers over bytes.
        heads: of the layers over bytes.
        encode_layers: over bytes, before merging.
        decode_layers: over bytes, after it.
        window: bytes before its own that a byte sees in these; -1 for all, with which a short training was 0.2
            bits worse.
        main_width: of the layers over groups.
        main_heads: of the layers over groups.
        main_layers: over groups.
        policy: "stride", "random", "space", "entropy" or "router" says where groups begin (the entropy
            policy must be fitted: ``model.body.policy.fit(texts, share)``); "all" is the plain byte transformer: the
            main layers over all bytes, and no others.
        share: of positions that begin a group: what a stride and random boundaries take, and the router is pulled to.
        ratio_weight: factor of the loss that pulls the router.
        reduce: "keep", "mean", "max" or "attention": what the vector of a group is.
        expand: "repeat", "gather" or "smooth": what positions get from their group.
        seed: what random boundaries come from.
    """

    model_type = "tersely_merging_lm"

    def __init__(
        self,
        width: int = 256,
        heads: int = 4,
        encode_layers: int = 2,
        decode_layers: int = 2,
        window: int = 32,
        main_width: int = 512,
        main_heads: int = 8,
        main_layers: int = 6,
        policy: str = "space",
        share: float = 0.25,
        ratio_weight: float = 0.03,
        reduce: str = "keep",
        expand: str = "repeat",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.width, self.heads, self.window = width, heads, window
        self.encode_layers, self.decode_layers = encode_layers, decode_layers
        self.main_width, self.main_heads, self.main_layers = main_width, main_heads, main_layers
        self.policy, self.share, self.ratio_weight, self.seed = policy, share, ratio_weight, seed
        self.reduce, self.expand = reduce, expand
        ids: dict[str, Any] = {"bos_token_id": END, "eos_token_id": END, "vocab_size": VOCABULARY}
        super().__init__(**(ids | kwargs))
