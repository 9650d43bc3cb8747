"""Attention the plain way: whole masks, one softmax, in whatever dtype it is given; and packed batches to try it on."""

from itertools import accumulate

import torch


def cu_seqlens(lengths, device="cpu", dtype=torch.int32):
    return torch.tensor([0, *accumulate(lengths)], dtype=dtype, device=device)


def document_mask(lengths_q, lengths_k, tokens_q, tokens_k, causal=False, window=(-1, -1)):
    """Who sees whom, pair by pair."""
    seen = torch.zeros(tokens_q, tokens_k, dtype=torch.bool)
    first_q = first_k = 0
    for length_q, length_k in zip(lengths_q, lengths_k, strict=True):
        for i in range(length_q):
            own = i + length_k - length_q  # the last query stands at the last key
            low = 0 if window[0] < 0 else max(0, own - window[0])
            high = length_k if window[1] < 0 else min(length_k, own + window[1] + 1)
            high = min(high, own + 1) if causal else high
            seen[first_q + i, first_k + low : first_k + max(low, high)] = True
        first_q, first_k = first_q + length_q, first_k + length_k
    return seen


def dense_attention(q, k, v, seen, scale, softcap=0.0, gate=None, sink=None):
    """``out`` and ``lse`` by one softmax over all keys, in the dtype of ``q``; blind rows are 0 and -inf."""
    group = q.shape[1] // k.shape[1]
    x = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(group, 1)) * scale
    if softcap:
        x = softcap * torch.tanh(x / softcap)
    if gate is not None:
        x = x + gate.to(x.dtype)
    x = x.masked_fill(~seen, float("-inf"))
    if sink is not None:
        x = torch.cat([x, sink.to(x.dtype)[:, None, None].expand(-1, x.shape[1], 1)], -1)
    p = x.softmax(-1).nan_to_num(0.0)[..., : k.shape[0]]
    return torch.einsum("hqk,khd->qhd", p, v.repeat_interleave(group, 1)), x.logsumexp(-1)
