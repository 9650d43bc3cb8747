"""MrT5 in the plain form of its paper: padded, masked, every score there, written out with torch alone."""

import torch

LOW = -1e9


def norm(x, weight, eps=1e-6):
    return weight * x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()


def bucket(distance, both_ways, buckets=32, far=128):
    """T5's range of one distance (key minus query), for a Python integer."""
    base = 0
    if both_ways:
        buckets //= 2
        base = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return base + distance
    ratio = torch.log(torch.tensor(distance / exact)) / torch.log(torch.tensor(far / exact))
    return base + min(exact + int(ratio * (buckets - exact)), buckets - 1)


def biases(stack, length, both_ways):
    """``(H, L, L)`` of a stack of T5."""
    table = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    numbers = [[bucket(key - query, both_ways) for key in range(length)] for query in range(length)]
    return table[torch.tensor(numbers, dtype=torch.long).reshape(length, length)].permute(2, 0, 1)


def attention(module, x, states, added, one):
    """``(B, L, C)`` over ``(B, K, C)`` with ``added`` ``(B, H or 1, L, K)`` to the scores."""
    q, k, v = (
        linear(y).unflatten(-1, (module.n_heads, -1)).transpose(1, 2)
        for linear, y in ((module.q, x), (module.k, states), (module.v, states))
    )
    scores = q @ k.transpose(2, 3) + added
    top = scores.amax(-1, keepdim=True).detach()
    top = top.clamp(min=0) if one else top
    weights = (scores - top).exp()
    weights = weights / (weights.sum(-1, keepdim=True) + (torch.exp(-top) if one else 0))
    return module.o((weights @ v).transpose(1, 2).flatten(2))


def blocks(stack, x, number, added, one, states=None, across=None):
    own, *_ = layers = stack.block[number].layer
    normed = norm(x, own.layer_norm.weight)
    x = x + attention(own.SelfAttention, normed, normed, added, one)
    if states is not None:
        other = layers[1]
        x = x + attention(other.EncDecAttention, norm(x, other.layer_norm.weight), states, across, one)
    return x + layers[-1].DenseReluDense(norm(x, layers[-1].layer_norm.weight))


def gates(policy, x):
    """``G`` of ``(B, L, C)``."""
    return policy.scale / (1 + torch.exp(norm(x, policy.norm.weight) @ policy.weight[0] + policy.bias))


def padded_logits(model, ids, mask, targets, soft=True, keep=None):
    """Logits of padded targets, and ``G`` ``(B, L)``.

    Hard deletion is written as masked soft deletion whose gate is saturated: what falls below the threshold is never seen, or what is not in ``keep`` ``(B, L)``.
    """
    config, one = model.config, model.config.softmax_plus_one
    x = model.shared(ids)
    hidden = torch.where(mask.bool(), 0.0, LOW).to(x.dtype)[:, None, None]
    bias = biases(model.encoder, ids.shape[1], True)
    gate = None
    for number in range(config.num_layers + 1):
        if number == config.gate_layer and keep is not None:
            hidden = hidden.masked_fill(~keep[:, None, None], LOW)
            if config.policy == "gate":
                gate = gates(model.encoder.policy, x)
                hidden = hidden + gate[:, None, None]
        elif number == config.gate_layer and model.encoder.policy is not None:
            gate = gates(model.encoder.policy, x)
            added = gate if soft else gate.masked_fill(gate <= model.encoder.policy.scale / 2, LOW)
            if not soft:  # a document that would lose all keeps its best
                for row in range(len(ids)):
                    real = mask[row].bool()
                    if real.any() and (added[row][real] == LOW).all():
                        best = int(gate[row].masked_fill(~real, -torch.inf).argmax())
                        added = added.clone()
                        added[row, best] = gate[row, best]
            hidden = hidden + added[:, None, None]
        if number < config.num_layers:
            x = blocks(model.encoder, x, number, bias + hidden, one)
    states = norm(x, model.encoder.final_layer_norm.weight)
    y = model.shared(targets)
    length = targets.shape[1]
    order = biases(model.decoder, length, False) + torch.full((length, length), LOW, dtype=x.dtype).triu(1)
    for number in range(config.num_decoder_layers):
        y = blocks(model.decoder, y, number, order[None], one, states, hidden)
    y = norm(y, model.decoder.final_layer_norm.weight)
    return model.lm_head(y * (config.d_model**-0.5 if config.scale_decoder_outputs else 1)), gate
