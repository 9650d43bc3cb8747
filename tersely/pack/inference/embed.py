"""Vectors of texts, pooled from the last hidden states of a packed row; for encoders and decoders alike."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tersely.errors import choose
from tersely.kernels import segment_reduce
from tersely.pack.inference.attention import packed_attention
from tersely.pack.inference.forward import run_row
from tersely.pack.inference.prefill import rows_of
from tersely.pack.inference.prompts import prompt_ids
from tersely.pack.inference.support import check_encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Pooling(StrEnum):
    """What of a text's hidden states is its vector."""

    MEAN = "mean"
    """Their mean: sentence encoders."""
    FIRST = "first"
    """That of the first token ([CLS])."""
    LAST = "last"
    """That of the last token: decoders made into encoders."""


def embed(
    model: PreTrainedModel,
    texts: Any,
    tokenizer: Any = None,
    *,
    pooling: Pooling | str = Pooling.MEAN,
    normalize: bool = False,
    token_budget: int | None = None,
) -> Tensor:
    """A vector for each text.

    Args:
        model: an encoder or a decoder of transformers; the head of a language model is not run.
        texts: strings, or whatever ``prefill`` takes as prompts.
        tokenizer: for strings; texts are never truncated.
        pooling: what the vector is made of.
        normalize: give it length 1.
        token_budget: tokens that go through the model at once.

    Returns:
        ``(N, hidden)``, on the model's device, fp32.

    Raises:
        PackError: as ``prefill``.
    """
    pooling = choose(Pooling, pooling)
    body: Any = model.base_model
    traits = check_encoder(body)
    ids = prompt_ids(texts, tokenizer)
    causal = all(m.is_causal for m in body.modules() if hasattr(m, "is_causal"))
    found = dict[int, Tensor]()
    with packed_attention(model), torch.no_grad():
        for row in rows_of(body, traits, ids, token_budget, share=causal):
            states = run_row(body, traits, row).last_hidden_state[0]
            vectors = _pool(states, row, pooling)
            found.update((p, vectors[i]) for i, branch in enumerate(row.branches) for p in branch.prompts)
    vectors = torch.stack([found[number] for number in range(len(ids))])
    return torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors


def _pool(states: Tensor, row: Any, pooling: Pooling) -> Tensor:
    """``(branches, hidden)``, fp32, from the states ``(T, hidden)`` of a row."""
    places = [row.places(branch) for branch in range(len(row.branches))]
    if pooling is not Pooling.MEAN:
        one = [p[0 if pooling is Pooling.FIRST else -1] for p in places]
        return states[torch.tensor(one, device=states.device)].float()
    cu_seqlens = torch.from_numpy(np.cumsum([0, *map(len, places)]).astype(np.int32)).to(states.device)
    gathered = states[torch.from_numpy(np.concatenate(places)).to(states.device)] if row.shares else states
    return segment_reduce(gathered.float(), cu_seqlens, "mean")
