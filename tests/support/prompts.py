"""Prompts of very different lengths, some of which begin alike, and what models give for each of them alone."""

import torch
from transformers import DynamicCache


def prompts(vocabulary=96, seed=0):
    """Ten lists of ids: short, long, equal ones, one of a single token, and a family with a common beginning."""
    generator = torch.Generator().manual_seed(seed)

    def ids(length):
        return torch.randint(2, vocabulary, (length,), generator=generator).tolist()

    head = ids(20)
    turn = head + ids(18)
    made = [ids(7), ids(1), head + ids(5), ids(40), turn + ids(9), head, ids(33), turn, turn + ids(1)]
    return [*made, made[3]]


@torch.no_grad()
def alone(model, prompt):
    """Logits ``(length, vocabulary)`` and the cache of one prompt run by itself."""
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prompt], device=model.device)
    out = model(input_ids=ids, past_key_values=cache, use_cache=True)
    return out.logits[0], cache


def written(model, prompt, new, **changes):
    """The new tokens that ``model.generate`` gives for one prompt by itself."""
    ids = torch.tensor([prompt], device=model.device)
    settings = dict(max_new_tokens=new, do_sample=False, pad_token_id=0) | changes
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
    return out[0, len(prompt) :].tolist()
