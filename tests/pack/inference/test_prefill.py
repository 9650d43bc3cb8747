"""Packed prefill: caches and logits of each prompt are those of the prompt run alone."""

import random
import warnings

import numpy as np
import pytest
import torch
import transformers
from families import DECODERS, SIZES, small
from prompts import alone, prompts
from small import tiny_llama

from tersely import Ragged
from tersely.errors import PackError
from tersely.kernels import register_with_transformers
from tersely.pack import prefill
from tersely.pack.inference.attention import packed_attention

CLOSE = 1e-4


def check(model, given, result):
    """Logits, caches, and one more step from each cache."""
    step = torch.tensor([[5]], device=model.device)
    for number, prompt in enumerate(given):
        logits, cache = alone(model, prompt)
        assert torch.allclose(result.logits[number], logits[-1], atol=CLOSE)
        mine = result.caches[number]
        assert mine.get_seq_length() == len(prompt)
        for a, b in zip(mine.layers, cache.layers, strict=True):
            assert type(a) is type(b)
            assert torch.allclose(a.keys, b.keys, atol=CLOSE)
            assert torch.allclose(a.values, b.values, atol=CLOSE)
        with torch.no_grad():
            after = [model(input_ids=step, past_key_values=c).logits for c in (mine, cache)]
        assert torch.allclose(*after, atol=CLOSE)


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("budget", [13, 1000])
def test_each_prompt_gets_what_it_gets_alone(family, budget):
    model = small(family, "eager")
    check(model, prompts(), prefill(model, prompts(), token_budget=budget))
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Gemma2", "GptOss"])
def test_the_way_of_the_kernels_is_the_same(family, monkeypatch):
    monkeypatch.setattr("tersely.pack.inference.forward.runs_kernels", lambda _: True)  # by their twins
    model = small(family, "eager")
    check(model, prompts(), prefill(model, prompts(), token_budget=50))
    apart = prefill(model, prompts(), share_prefixes=False)
    assert torch.allclose(apart.logits, prefill(model, prompts()).logits, atol=CLOSE)


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention", "tersely"])
def test_the_model_may_attend_in_any_way_and_is_left_as_it_was(attention):
    register_with_transformers()
    model = tiny_llama(attention).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = prefill(model, prompts(384), token_budget=64)
    assert model.config._attn_implementation == attention
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    plain = tiny_llama("eager").eval()
    check(plain, prompts(384), result)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_prompts_does_not_matter(seed):
    model = tiny_llama("sdpa").eval()
    given = prompts(384)
    order = list(range(len(given)))
    random.Random(seed).shuffle(order)
    one = prefill(model, given, token_budget=60)
    other = prefill(model, [given[i] for i in order], token_budget=90)
    for place, number in enumerate(order):
        assert torch.allclose(one.logits[number], other.logits[place], atol=1e-5)


def test_all_logits_and_hidden_states_are_given_on_request():
    model = tiny_llama("sdpa").eval()
    result = prefill(model, prompts(384), token_budget=64, all_logits=True, hidden_states=True)
    for number, prompt in enumerate(prompts(384)):
        with torch.no_grad():
            out = model(torch.tensor([prompt]), output_hidden_states=True)
        assert torch.allclose(result.all_logits[number], out.logits[0], atol=CLOSE)
        assert torch.allclose(result.hidden_states[number], out.hidden_states[-1][0], atol=CLOSE)
    plain = prefill(model, prompts(384))
    assert plain.all_logits is None
    assert plain.hidden_states is None


def test_shared_beginnings_are_computed_once_and_counted():
    model = tiny_llama("sdpa").eval()
    head = list(range(2, 102))
    given = [[*head, 200 + i, 7] for i in range(20)]
    result = prefill(model, given)
    assert result.report.computed_tokens == 100 + 2 * 20
    assert result.report.shared_tokens == 19 * 100
    check(model, given[:3], result)
    apart = prefill(model, given, share_prefixes=False)
    assert apart.report.computed_tokens == 102 * 20
    assert torch.allclose(apart.logits, result.logits, atol=1e-5)


def test_a_thousand_prompts():
    model = tiny_llama("sdpa", num_hidden_layers=1).eval()
    rng = random.Random(0)
    given = [[rng.randrange(2, 384) for _ in range(rng.randrange(1, 40))] for _ in range(1000)]
    result = prefill(model, given, token_budget=4096)
    check(model, given[::100], prefill(model, given[::100]))
    for number in range(0, 1000, 37):
        assert torch.allclose(result.logits[number], alone(model, given[number])[0][-1], atol=CLOSE)


def test_a_prompt_longer_than_the_budget_runs_alone_and_is_reported():
    model = tiny_llama("sdpa").eval()
    given = [[7] * 50, [8] * 10, [9] * 10]
    result = prefill(model, given, token_budget=20)
    check(model, given, result)
    assert result.report.alone == (0,)
    assert result.report.rows == 2
    assert "alone, for their length: prompts 0" in str(result.report)


@pytest.mark.parametrize(
    "form",
    [lambda p: Ragged.from_rows([np.array(x, np.uint16) for x in p]), lambda p: [torch.tensor(x) for x in p]],
)
def test_prompts_may_be_arrays(form):
    model = tiny_llama("sdpa").eval()
    assert torch.allclose(
        prefill(model, form(prompts(384))).logits, prefill(model, prompts(384)).logits, atol=1e-5
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_is_taken_with_its_mask(side):
    model = tiny_llama("sdpa").eval()
    given = prompts(384)
    longest = max(map(len, given))
    ids = torch.zeros(len(given), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(given):
        own = slice(longest - len(prompt), None) if side == "left" else slice(len(prompt))
        ids[row, own], mask[row, own] = torch.tensor(prompt), 1
    want = prefill(model, given).logits
    assert torch.allclose(prefill(model, ids, attention_mask=mask).logits, want, atol=1e-5)
    assert torch.allclose(prefill(model, {"input_ids": ids, "attention_mask": mask}).logits, want, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (dict(prompts=[[1, 2], []]), "prompt 1 has no tokens"),
        (dict(prompts=[]), "there are no prompts"),
        (dict(prompts=["text"]), "there is no tokenizer"),
        (dict(prompts="text"), "one string"),
        (dict(prompts=[[1.5, 2]]), "prompt 0 is no sequence of ids"),
        (dict(prompts=[[1, 2]], token_budget=0), "token_budget is 0"),
        (dict(prompts=[[1, 2]], attention_mask=[[1]]), "attention_mask has shape"),
        (dict(prompts=[[1, 2]], attention_mask=[[1, 2]]), "other than 0 and 1"),
        (dict(prompts=[[1, 2, 3]], attention_mask=[[1, 0, 1]]), "padding between tokens"),
        (dict(prompts=[[1, 2]], attention_mask=[[0, 0]]), "prompt 0 has no tokens"),
        (dict(prompts=torch.zeros(2, 2, 2, dtype=torch.int64)), "has shape"),
    ],
)
def test_what_does_not_fit_is_said(call, message):
    model = tiny_llama()
    with pytest.raises(PackError, match=message):
        prefill(model, **call)


REFUSED = [
    ("Mamba", dict(hidden_size=32, num_hidden_layers=1, vocab_size=96), "linear_attention layers"),
    ("Bloom", dict(hidden_size=32, n_layer=1, n_head=2, vocab_size=96), "attention interface"),
    ("Lfm2", dict(num_hidden_layers=2, layer_types=["conv", "full_attention"]), "conv layers"),
    (
        "Bamba",
        dict(num_hidden_layers=2, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16),
        "one by one",
    ),
    ("Llama4Text", dict(num_local_experts=2, attention_chunk_size=8), "chunk"),
    ("Bert", dict(), "not causal"),
]


@pytest.mark.parametrize(("family", "changes", "message"), REFUSED, ids=[family for family, _, _ in REFUSED])
def test_models_that_cannot_be_packed_are_refused_by_name(family, changes, message):
    sizes = ({} if family in ("Mamba", "Bloom") else SIZES) | changes
    config = getattr(transformers, f"{family}Config")(**sizes)
    kind = {"Bert": "BertForMaskedLM"}.get(family, f"{family.removesuffix('Text')}ForCausalLM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(transformers, kind)(config).eval()
    with pytest.raises(PackError, match=message) as refusal:
        prefill(model, [[2, 3], [4]])
    assert type(model).__name__ in str(refusal.value)


def test_rotary_embeddings_that_grow_with_length_do_not_reach_other_prompts():
    rope = dict(rope_type="dynamic", factor=4.0, rope_theta=10000.0)
    given = [[7] * 9, [8] * 60, [9] * 30]

    def fresh():  # it remembers the longest prompt it has seen
        return tiny_llama("eager", rope_parameters=rope, max_position_embeddings=32).eval()

    result = prefill(fresh(), given)
    for number, prompt in enumerate(given):
        assert torch.allclose(result.logits[number], alone(fresh(), prompt)[0][-1], atol=CLOSE)
    assert result.report.alone == (1,)


def test_an_attention_that_is_not_told_where_prompts_begin_refuses():
    model = tiny_llama().eval()
    with packed_attention(model), pytest.raises(PackError, match="one by one"):
        model(torch.tensor([[2, 3]]))


def test_half_precision_gives_what_the_same_model_gives():
    model = tiny_llama("sdpa").to(torch.bfloat16).eval()
    result = prefill(model, prompts(384), token_budget=64)
    for number, prompt in enumerate(prompts(384)):
        assert torch.allclose(result.logits[number], alone(model, prompt)[0][-1], atol=0.05)
