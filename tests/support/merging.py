"""A MergingLM in its plain form: documents padded to the longest, masks, one-hot sums and loops."""

import torch
from torch.nn import functional as F

from tersely.compress.merge.lm import MergingLM, MergingLMConfig

TEXTS = [b"the cat sat on a mat", b"", b"x", b"two words, 3 more", "d\u00e9j\u00e0 vu".encode()]
RULES = ["stride", "random", "space", "entropy"]
FORMS = [
    *[(policy, reduce, "repeat") for policy in RULES for reduce in ("keep", "mean", "max", "attention")],
    *[("space", reduce, "gather") for reduce in ("keep", "mean", "attention")],
    *[("router", reduce, "smooth") for reduce in ("keep", "mean", "max", "attention")],
    ("router", "keep", "gather"),
    ("router", "keep", "repeat"),
]


def build(policy="space", reduce="keep", expand="repeat", **settings):
    torch.manual_seed(3)
    shape = dict(
        width=16, heads=2, encode_layers=1, decode_layers=1, main_width=24, main_heads=2, main_layers=2
    )
    config = MergingLMConfig(policy=policy, reduce=reduce, expand=expand, share=0.3, **shape | settings)
    model = MergingLM(config)
    if policy == "entropy":
        model.body.policy.fit(TEXTS, 0.3)
    for part in model.parameters():
        torch.nn.init.normal_(part, std=0.3)
    return model.double()


def pack(texts=TEXTS, slack=0):
    """Documents between two ids 256; an empty text gives one that is empty altogether, and b"x" one of one id."""
    documents = [
        torch.tensor([256, *text, 256] if len(text) > 1 else [*text], dtype=torch.int64) for text in texts
    ]
    lengths = torch.tensor([len(document) for document in documents])
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    return torch.cat([*documents, torch.full((slack,), 65)]), cu_seqlens, documents


def padded(rows, fill=0.0):
    """Rows of (L_i, ...) as (B, L, ...), and their mask (B, L)."""
    longest = max(len(row) for row in rows)
    out = torch.stack(
        [torch.cat([row, row.new_full((longest - len(row), *row.shape[1:]), fill)]) for row in rows]
    )
    return out, torch.arange(longest)[None] < torch.tensor([len(row) for row in rows])[:, None]


def turned(x):
    """Rotary positions of (B, L, H, D)."""
    half = x.shape[-1] // 2
    steps = torch.arange(0, 2 * half, 2, dtype=torch.float32) / (2 * half)
    angle = torch.arange(x.shape[1])[:, None].float() * 10_000.0**-steps
    cos, sin = angle.cos()[:, None].to(x.dtype), angle.sin()[:, None].to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def stack(layers, x, mask, window=-1):
    """A causal Stack over (B, L, C)."""
    batch, length, width = x.shape
    behind = torch.arange(length)[:, None] - torch.arange(length)[None]
    seen = (behind >= 0) & ((behind <= window) | (window < 0)) & mask[:, None]
    seen = seen | torch.eye(length, dtype=torch.bool)  # padding sees itself, so that nothing is NaN
    for layer in layers.layers:
        qkv = F.linear(F.rms_norm(x, (width,), layer.attention_norm.weight, 1e-6), layer.qkv.weight).view(
            batch, length, 3, layers.heads, -1
        )
        q, k, v = (
            part.transpose(1, 2) for part in (turned(qkv[:, :, 0]), turned(qkv[:, :, 1]), qkv[:, :, 2])
        )
        scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
        mixed = scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1) @ v
        x = x + F.linear(mixed.transpose(1, 2).flatten(2), layer.out.weight)
        gate, up = F.linear(F.rms_norm(x, (width,), layer.mlp_norm.weight, 1e-6), layer.gate_up.weight).chunk(
            2, -1
        )
        x = x + F.linear(F.silu(gate) * up, layer.down.weight)
    return F.rms_norm(x, (width,), layers.norm.weight, 1e-6)


def choose(body, h, mask, documents):
    """Where groups begin, (B, L), and the probability of it, or None."""
    if type(body.policy).__name__ == "RouterPolicy":
        q, k = h @ body.policy.query.weight.T, h @ body.policy.key.weight.T
        cosine = F.cosine_similarity(q[:, :-1], k[:, 1:], dim=-1)
        p = torch.cat([torch.ones_like(h[:, :1, 0]), (1 - cosine) / 2], 1)
        return (p > 0.5) & mask, p
    alone = [
        body.policy(torch.zeros(len(ids), 1), torch.tensor([0, len(ids)], dtype=torch.int32), ids).keep
        for ids in documents
    ]
    return padded(alone, False)[0], None


def reduced(body, h, keep, mask):
    """The vector of each group as it begins, (B, G, C); groups that are none are what they may be."""
    number = keep.cumsum(1) - 1
    groups = int(number.max()) + 1
    member = (number[:, None] == torch.arange(groups)[None, :, None]) & mask[:, None]  # (B, G, L)
    if body.reduce.reduce == "keep":
        first = member & keep[:, None]
        return first.to(h.dtype) @ h
    if body.reduce.reduce == "mean":
        whole = member.to(h.dtype) @ h / member.sum(-1, keepdim=True).clamp(min=1)
    elif body.reduce.reduce == "max":
        whole = h[:, None].masked_fill(~member[..., None], -torch.inf).amax(2)
        whole = whole.masked_fill(whole == -torch.inf, 0)
    else:
        score = (h @ body.reduce.score.weight[0])[:, None].masked_fill(~member, -torch.inf)
        whole = score.softmax(-1).nan_to_num(0) @ h
    start = body.reduce.start.expand(len(h), 1, -1)
    return torch.cat([start, whole[:, :-1]], 1)


def merging_lm(model, documents):
    """Logits of each document (of ids, none empty), and the choice, by the padded twin."""
    ids, mask = padded(documents, 0)
    body, x = model.body, F.embedding(ids, model.embedding.weight)
    h = stack(body.encode, x, mask, body.window)
    keep, p = choose(body, h, mask, documents)
    number = keep.cumsum(1) - 1
    vectors = reduced(body, h, keep, mask)
    inner = torch.arange(vectors.shape[1])[None] < keep.sum(1, keepdim=True)
    z = F.linear(stack(body.main, F.linear(vectors, body.up.weight), inner), body.down.weight)
    if body.expansion == "smooth":
        at = torch.stack(
            [F.pad(row[k], (0, z.shape[1] - int(k.sum()))) for row, k in zip(p, keep, strict=True)]
        )
        smooth = [z[:, 0]]
        for group in range(1, z.shape[1]):
            w = at[:, group, None]
            smooth.append(w * z[:, group] + (1 - w) * smooth[-1])
        z = torch.stack(smooth, 1)
    back = z.gather(1, number.clamp(min=0)[..., None].expand(-1, -1, z.shape[-1]))
    if body.expansion == "gather":
        back = back * keep[..., None]
    if p is not None:
        decided = torch.where(keep, p, 1 - p)
        back = back * (1 + decided - decided.detach())[..., None]
    y = stack(body.decode, back + F.linear(h, body.residual.weight), mask, body.window)
    logits = F.linear(y, model.head.weight)
    return [row[:n] for row, n in zip(logits, mask.sum(1).tolist(), strict=True)], keep, p
