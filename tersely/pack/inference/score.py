"""Log-likelihoods of texts, and vectors of texts, on packed rows: the two jobs of models that padding costs most.

Legend: ``N`` texts, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tersely.errors import PackError
from tersely.pack.inference.attention import packed_attention
from tersely.pack.inference.forward import run_row
from tersely.pack.inference.prefill import rows_of
from tersely.pack.inference.prompts import Ids, encode, prompt_ids
from tersely.pack.inference.support import check_decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKEN_BUDGET = 4096
"""Tokens of a row: each may need logits of the whole vocabulary."""
_AT_ONCE = 1024
"""Rows of logits that are widened to fp32 at a time."""


@dataclass(frozen=True)
class Score:
    """How likely a text is.

    Attributes:
        log_likelihood: sum of the natural logarithms of its tokens' probabilities.
        tokens: how many tokens that is over.
        greedy: whether each was the most probable one.
    """

    log_likelihood: float
    tokens: int
    greedy: bool


def score(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[Any],
    *,
    token_budget: int = TOKEN_BUDGET,
) -> list[Score]:
    """The log-likelihood of each text, or of a continuation given its context.

    A context that several texts share is computed once, as in a question with its possible answers.

    Args:
        model: as for ``prefill``.
        tokenizer: of transformers or of tersely; None where texts are ids.
        texts: strings or lists of ids, or pairs (context, continuation) of these, of which the continuation is scored. A
            whole text is scored from its second token on, or from its first where the tokenizer puts a token before it.
            Spaces at the end of a context count to the continuation, and an empty context is the tokenizer's bos or eos.
        token_budget: tokens that go through the model at once.

    Raises:
        PackError: as ``prefill``; or there is nothing to score in a text.
    """
    traits = check_decoder(model)
    pairs = [_pair(tokenizer, text) for text in texts]
    for number, (context, whole) in enumerate(pairs):
        if not context or len(whole) <= context:
            raise PackError(
                f"text {number} has {len(whole)} tokens, of which {context} are given: there must be one before the first "
                "that is scored"
            )
    inputs = prompt_ids([whole[:-1] for _, whole in pairs]) if pairs else []
    found = dict[int, Score]()
    with packed_attention(model), torch.no_grad():
        for row in rows_of(model, traits, inputs, token_budget) if inputs else ():
            wanted = [
                (p, row.places(i)[pairs[p][0] - 1 :])
                for i, branch in enumerate(row.branches)
                for p in branch.prompts
            ]
            keep = np.unique(np.concatenate([places for _, places in wanted]))
            logits = run_row(model, traits, row, keep=torch.from_numpy(keep).to(model.device)).logits[0]
            at = [np.searchsorted(keep, places) for _, places in wanted]
            targets = np.concatenate([pairs[p][1][pairs[p][0] :] for p, _ in wanted])
            chosen, best = _chosen(logits, np.concatenate(at), targets)
            ends = np.cumsum([len(places) for _, places in wanted])
            parts = zip(np.split(chosen, ends[:-1]), np.split(best, ends[:-1]), wanted, strict=True)
            for likelihoods, greedy, (prompt, places) in parts:
                found[prompt] = Score(float(likelihoods.sum()), len(places), bool(greedy.all()))
    return [found[number] for number in range(len(pairs))]


def _chosen(logits: Tensor, at: Ids, targets: Ids) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Log-probabilities of targets at rows of the logits, fp64, and whether they were the largest."""
    likelihoods, best = list[Tensor](), list[Tensor]()
    for first in range(0, len(at), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        rows = logits[torch.from_numpy(at[part]).to(logits.device)].float()
        target = torch.from_numpy(targets[part]).to(logits.device)
        own = rows.gather(1, target[:, None])[:, 0]
        likelihoods.append((own - rows.logsumexp(-1)).double())
        best.append(rows.argmax(-1) == target)
    return torch.cat(likelihoods).cpu().numpy(), torch.cat(best).cpu().numpy()


def _pair(tokenizer: Any, text: Any) -> tuple[int, Ids]:
    """How many ids are given, and all of them."""
    if not isinstance(text, tuple):
        whole = _ids(tokenizer, text)
        return 1, whole
    context, continuation = text
    if not isinstance(context, str):
        given = _ids(tokenizer, context)
        return len(given), np.concatenate([given, _ids(tokenizer, continuation)])
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    if not context:
        start = next(
            (x for name in ("bos_token_id", "bos_id", "eos_token_id", "eos_id") if (x := getattr(tokenizer, name, None)) is not None),
            None,
        )  # fmt: skip
        if start is None:
            raise PackError("a context is empty and the tokenizer has no bos or eos token: give a context")
        bare = _ids(tokenizer, continuation)
        return 1, bare if len(bare) and bare[0] == start else np.concatenate([[start], bare])
    given, whole = _ids(tokenizer, context), _ids(tokenizer, context + continuation)
    eos = getattr(tokenizer, "eos_token_id", None)
    while len(given) > 1 and given[-1] == eos and not np.array_equal(given, whole[: len(given)]):
        given = given[:-1]
    return min(len(given), len(whole) - 1), whole


def _ids(tokenizer: Any, text: Any) -> Ids:
    [row] = encode(tokenizer, [text]) if isinstance(text, str) else [text]
    return np.asarray(row.cpu() if hasattr(row, "cpu") else row).astype(np.int64).reshape(-1)
