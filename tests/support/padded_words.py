"""The plain, padded form of word models: words padded to the longest, documents to the longest, masks in full."""

import torch


def attend(stack, x, seen, places):
    """A Stack written out: x (B, L, C), who sees whom (B, L, L), places (B, L)."""
    size = stack.width // stack.heads
    turns = 10_000.0 ** (-torch.arange(0, size, 2, dtype=x.dtype) / size)
    angle = (places[..., None] * turns)[:, :, None]
    for layer in stack.layers:
        q, k, v = (
            (norm(x, layer.attention_norm) @ layer.qkv.weight.T)
            .view(*x.shape[:2], 3, stack.heads, size)
            .unbind(2)
        )
        scores = torch.einsum("bqhd,bkhd->bhqk", turned(q, angle), turned(k, angle)) * size**-0.5
        weights = scores.masked_fill(~seen[:, None], -1e30).softmax(-1)
        x = x + torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2) @ layer.out.weight.T
        x = x + gated(norm(x, layer.mlp_norm), layer)
    return norm(x, stack.norm)


def turned(y, angle):
    first, second = y.chunk(2, -1)
    return torch.cat(
        [first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1
    )


def norm(y, module):
    return y * (y.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * module.weight


def gated(x, module):
    gate, up = (x @ module.gate_up.weight.T).chunk(2, -1)
    return (gate / (1 + (-gate).exp()) * up) @ module.down.weight.T


def pool(module, words):
    """A WordPool of a list of bytes, (W, p, D)."""
    inner = module.pool
    make = prefixed if hasattr(inner, "stack") else looked_up
    x = make(inner, words)
    x = x + gated(norm(x, module.mlp.norm), module.mlp)
    return norm(x, module.norm) @ module.project.weight.T


def padded(words):
    """Bytes (W, L), and which are real."""
    longest = max([1, *map(len, words)])
    ids = torch.tensor([list(word) + [0] * (longest - len(word)) for word in words]).view(-1, longest)
    real = torch.arange(longest) < torch.tensor([len(word) for word in words])[:, None]
    return ids, real


def prefixed(inner, words):
    ids, real = padded(words)
    p = inner.slots
    prefixes = (256 + torch.arange(p)).expand(len(words), p)
    x = inner.embedding.weight[torch.cat([prefixes, ids], 1)]
    there = torch.cat([torch.ones_like(prefixes, dtype=torch.bool), real], 1)
    places = torch.arange(there.shape[1]).expand(there.shape)
    return attend(inner.stack, x, there[:, None].expand(-1, there.shape[1], -1), places)[:, :p]


def looked_up(inner, words):
    ids, real = padded(words)
    x = inner.byte.weight[ids] + inner.place.weight[torch.arange(ids.shape[1]).clamp(max=inner.places - 1)]
    x = norm(x + gated(norm(x, inner.mlp.norm), inner.mlp), inner.norm)
    values = x @ inner.value.weight.T
    there = real.any(1)[:, None, None]
    if inner.kind == "query":
        keys = (x @ inner.key.weight.T).unflatten(2, (inner.heads, -1))
        scores = torch.einsum("wlhd,phd->wphl", keys, inner.query) * keys.shape[3] ** -0.5
        weights = scores.masked_fill(~real[:, None, None], -1e30).softmax(-1)
        found = torch.einsum("wphl,wlhd->wphd", weights, values.unflatten(2, (inner.heads, -1))).flatten(2)
        return torch.where(there, found, 0)
    if inner.kind == "mean":
        found = (values * real[..., None]).sum(1) / real.sum(1).clamp(min=1)[:, None]
    elif inner.kind == "max":
        found = values.masked_fill(~real[..., None], -1e30).amax(1)
    else:
        found = values[:, 0]
    return torch.where(there, found.unflatten(1, (inner.slots, -1)), 0)


def spelling_losses(model, documents):
    """The losses of all symbols of a WordPooledLM over documents of lists of bytes, one after another."""
    p, end = model.config.slots, model.speller.end_of_word
    most = max(map(len, documents)) + 1
    rows = [model.start.expand(1, -1, -1).expand(len(documents), -1, -1)]
    for number in range(most - 1):
        words = [words[number] if number < len(words) else b"" for words in documents]
        rows.append(pool(model.pool, words))
    x = torch.stack(rows, 1).flatten(1, 2)
    length = most * p
    there = (
        torch.arange(most) <= torch.tensor([len(words) for words in documents])[:, None]
    ).repeat_interleave(p, 1)
    seen = torch.ones(length, length).tril().bool() & there[:, None]
    hidden = attend(model.stack, x, seen, torch.arange(length).expand(len(x), -1)).unflatten(1, (most, p))
    losses = []
    for states, words in zip(hidden, documents, strict=True):
        spelled = [*([*word, end] for word in words), [end + 1]]
        losses.append(said(model.speller, states[: len(spelled)], spelled))
    return torch.cat(losses)


def said(speller, states, spelled):
    """The losses of the symbols of lists of symbols, each spelled from a state (p, D)."""
    p, longest = speller.slots, max(map(len, spelled))
    symbols = torch.tensor([[*word[:-1], *[0] * (longest - len(word))] for word in spelled])
    symbols = symbols.view(len(spelled), longest - 1)
    x = torch.cat([states @ speller.project.weight.T, speller.embedding.weight[symbols.long()]], 1)
    length = x.shape[1]
    hidden = attend(
        speller.stack, x, torch.ones(length, length).tril().bool()[None], torch.arange(length)[None]
    )
    likely = (hidden[:, p - 1 :] @ speller.head.weight.T).log_softmax(-1)
    return torch.stack(
        [-likely[i, j, symbol] for i, word in enumerate(spelled) for j, symbol in enumerate(word)]
    )
