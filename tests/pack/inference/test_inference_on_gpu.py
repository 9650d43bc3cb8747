"""Packed inference on a CUDA device: as near to fp32 as the model's own attention is, and the same tokens in fp32."""

import copy

import pytest
import torch
from families import small
from prompts import alone, prompts, written
from small import tiny_llama

from tersely.pack import embed, generate, prefill, score

pytestmark = pytest.mark.gpu
LARGE = dict(hidden_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=64)


def error(logits, exact):
    return (logits.float().cpu() - exact).norm().item()


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen3", "Gemma2", "Gemma3", "GptOss"])
@pytest.mark.parametrize("share", [True, False])
def test_half_precision_is_as_near_to_fp32_as_the_model_itself(family, share):
    exact = small(family, "eager", **LARGE)
    model = copy.deepcopy(exact).to("cuda", torch.bfloat16)
    result = prefill(model, prompts(), token_budget=64, share_prefixes=share)
    for number, prompt in enumerate(prompts()):
        want = alone(exact, prompt)[0][-1]
        own = error(alone(model, prompt)[0][-1], want)
        assert error(result.logits[number], want) <= 2 * own + 1e-3 * want.norm().item()


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "GptOss", "Mistral"])
def test_decoding_in_half_precision_follows_fp32(family):
    """Likelihoods of what it wrote, because two roundings may choose another token."""
    exact = small(family, "eager", **LARGE)
    model = copy.deepcopy(exact).to("cuda", torch.bfloat16)
    model.generation_config.eos_token_id = None
    for prompt, ids in zip(prompts(), generate(model, None, prompts(), max_new_tokens=80), strict=True):
        own = behind(exact, prompt, written(model, prompt, 80))
        assert behind(exact, prompt, ids) <= 2 * own + 0.03


def behind(exact, prompt, ids):
    """How much less likely, at most, a token written is than the best one, by logits in fp32 over their largest."""
    with torch.no_grad():
        logits = exact(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
    return ((logits.amax(-1) - chosen).max() / logits.abs().max()).item()


def test_tokens_in_fp32_are_those_of_each_prompt_alone():
    torch.backends.cuda.matmul.allow_tf32 = False
    model = tiny_llama(eos_token_id=None).eval().to("cuda")
    given = prompts(384)
    assert generate(model, None, given, max_new_tokens=80) == [written(model, prompt, 80) for prompt in given]


def test_scores_and_vectors_are_those_of_the_cpu():
    model = tiny_llama().eval()
    pairs = [(prompt, [5, 6]) for prompt in prompts(384)]
    here, vectors = score(model, None, pairs), embed(model, prompts(384))
    model.to("cuda")
    for one, other in zip(here, score(model, None, pairs), strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-3)
    assert torch.allclose(vectors, embed(model, prompts(384)).cpu(), atol=1e-3)
