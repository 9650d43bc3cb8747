"""Generation for many prompts together: the tokens that each gets alone, whatever stands beside it."""

import numpy as np
import pytest
import torch
from codes import code
from families import DECODERS, small
from prompts import prompts, written
from small import tiny_bpe, tiny_llama
from transformers import PreTrainedTokenizerFast

import tersely
from tersely.errors import PackError, UsageError
from tersely.pack import generate, generate_stream
from tersely.pack.inference.sampling import Sampling, draw
from tersely.ragged import Ragged


@pytest.fixture
def tokenizer():
    return PreTrainedTokenizerFast(tokenizer_object=tiny_bpe(), eos_token="<|endoftext|>")


def talker(tokenizer):
    return tiny_llama(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id).eval()


def test_ids_that_mean_something_else_after_other_text_are_read_from_the_prompt_on():
    tok = code(12, 1)
    model = tiny_llama(vocab_size=tok.vocab_size, eos_token_id=None).eval()
    given = ["The class of", "a", "x = 1"]
    ids = [written(model, row.tolist(), 12) for row in tok.encode(given)]
    whole = tok.decode(
        Ragged.from_rows([[*row, *new] for row, new in zip(tok.encode(given), ids, strict=True)])
    )
    want = [text[len(prompt) :].decode("utf-8", "replace") for text, prompt in zip(whole, given, strict=True)]
    assert generate(model, tok, given, max_new_tokens=12) == want
    stop = want[0][5:8]
    stopped = generate(model, tok, given, max_new_tokens=12, stop=[stop])
    assert stopped[0] == want[0][: want[0].index(stop)]


@pytest.mark.parametrize("family", DECODERS)
def test_greedy_tokens_are_those_of_each_prompt_alone(family):
    model = small(family, "eager")
    together = generate(model, None, prompts(), max_new_tokens=12, token_budget=50)
    assert together == [written(model, prompt, 12) for prompt in prompts()]


def test_room_is_made_again_and_again(monkeypatch):
    monkeypatch.setattr("tersely.pack.inference.decode.ROOM", 3)
    model = tiny_llama(eos_token_id=None).eval()
    given = prompts(384)[:4]
    limits = [30, 4, 30, 17]
    want = [written(model, prompt, limit) for prompt, limit in zip(given, limits, strict=True)]
    assert generate(model, None, given, max_new_tokens=limits) == want


def test_each_prompt_has_its_own_limit():
    model = tiny_llama(eos_token_id=None).eval()
    done = generate(model, None, prompts(384)[:3], max_new_tokens=[1, 9, 4])
    assert [len(ids) for ids in done] == [1, 9, 4]


def test_results_come_as_prompts_finish_and_the_model_is_free_between():
    model = tiny_llama("sdpa", eos_token_id=None).eval()
    given = prompts(384)[:3]
    order = []
    for completion in generate_stream(model, None, given, max_new_tokens=[6, 2, 4]):
        order.append(completion.index)
        assert completion.reason == "length"
        assert completion.text is None
        assert model.config._attn_implementation == "sdpa"
        assert completion.ids == written(model, given[completion.index], len(completion.ids))
    assert order == [1, 2, 0]


def test_a_completion_ends_with_the_token_that_ends_it():
    model = tiny_llama(eos_token_id=None).eval()
    prompt = prompts(384)[0]
    free = written(model, prompt, 12)
    [done] = generate_stream(model, None, [prompt], max_new_tokens=12, eos_token_id=[free[4]])
    assert done.ids == free[: free.index(free[4]) + 1]
    assert done.reason == "eos"


def test_text_stops_at_strings_of_its_own_prompt(tokenizer):
    model = talker(tokenizer)
    texts = ["Document 1: word", "word word", "Document"]
    free = generate(model, tokenizer, texts, max_new_tokens=30)
    assert free == [
        tokenizer.decode(written(model, tokenizer(text)["input_ids"], 30), skip_special_tokens=True)
        for text in texts
    ]
    marks = [text[5:8] for text in free]
    cut = generate(model, tokenizer, texts, max_new_tokens=30, stop=[[mark] for mark in marks])
    assert cut == [text[: text.index(mark)] for text, mark in zip(free, marks, strict=True)]
    everywhere = generate(model, tokenizer, texts, max_new_tokens=30, stop=[marks[0]])
    assert everywhere[0] == cut[0]
    done = [*generate_stream(model, tokenizer, texts, max_new_tokens=30, stop=[[mark] for mark in marks])]
    assert {c.reason for c in done} == {"stop"}


def test_tokenizers_of_tersely_serve_as_well():
    tok = tersely.load_tokenizer("bytes")
    model = tiny_llama(vocab_size=tok.vocab_size, eos_token_id=None).eval()
    [text] = generate(model, tok, ["ab"], max_new_tokens=5)
    ids = written(model, tok.encode(["ab"])[0].tolist(), 5)
    assert text == bytes(tok.decode(tersely.Ragged.from_rows([np.array(ids)]))[0]).decode("utf-8", "replace")


def test_draws_depend_on_the_seed_and_the_prompt_alone():
    model = tiny_llama(eos_token_id=None).eval()
    given = prompts(384)[:4]
    settings = dict(max_new_tokens=10, temperature=1.5, top_k=50, top_p=0.9)
    first = generate(model, None, given, seed=1, **settings)
    assert first == generate(model, None, given, seed=1, token_budget=7, **settings)
    assert first[:2] == generate(model, None, given[:2], seed=1, **settings)
    assert first != generate(model, None, given, seed=2, **settings)


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]]).expand(4000, 4)
    uniform = (torch.arange(4000).double() + 0.5) / 4000
    for sampling, allowed in (
        (Sampling(temperature=1.0), [0, 1, 2, 3]),
        (Sampling(temperature=2.0, top_k=2), [2, 3]),
        (Sampling(temperature=1.0, top_p=0.7), [2, 3]),
    ):
        want = torch.zeros(4, dtype=torch.float64)
        want[allowed] = (logits[0, allowed].double() / sampling.temperature).softmax(0)
        share = torch.bincount(draw(logits, uniform, sampling), minlength=4) / 4000
        assert torch.allclose(share.double(), want, atol=1e-3)
    assert draw(logits[:1], torch.tensor([1 - 1e-17]), Sampling(temperature=1.0, top_k=2)).item() in (2, 3)


def test_the_repetition_penalty_of_the_model_is_applied():
    model = tiny_llama(eos_token_id=None).eval()
    model.generation_config.repetition_penalty = 1.7
    given = prompts(384)[:3]
    assert generate(model, None, given, max_new_tokens=20) == [written(model, p, 20) for p in given]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (dict(max_new_tokens=0), UsageError, "max_new_tokens is 0"),
        (dict(max_new_tokens=[1, 2]), UsageError, "2 values for 1 prompts"),
        (dict(temperature=-1.0), UsageError, "must not be negative"),
        (dict(top_p=0.0), UsageError, "top_p"),
        (dict(stop=["x"]), UsageError, "stop needs a tokenizer"),
        (dict(stop="x"), UsageError, "one string"),
    ],
)
def test_settings_out_of_range_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        generate(tiny_llama(), None, [[2, 3]], **call)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("cache_implementation", "static", "cache of kind 'static'"),
        ("cache_implementation", "quantized", "cache of kind 'quantized'"),
        ("no_repeat_ngram_size", 2, "no_repeat_ngram_size"),
        ("num_beams", 3, "num_beams"),
    ],
)
def test_what_the_model_asks_for_and_is_not_done_is_refused(setting, value, message):
    model = tiny_llama()
    setattr(model.generation_config, setting, value)
    with pytest.raises(PackError, match=message):
        generate(model, None, [[2, 3]])


def test_a_model_with_a_latent_cache_is_refused():
    latent = dict(q_lora_rank=8, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8)
    experts = dict(
        n_routed_experts=4, n_group=1, topk_group=1, num_experts_per_tok=2, moe_intermediate_size=16
    )
    model = small("DeepseekV3", "eager", num_key_value_heads=4, **latent, **experts)
    with pytest.raises(PackError, match="latent cache"):
        generate(model, None, prompts(), max_new_tokens=3)


def test_positions_that_would_turn_with_length_are_refused():
    model = tiny_llama(
        rope_parameters=dict(rope_type="dynamic", factor=4.0, rope_theta=1e4), max_position_embeddings=32
    )
    with pytest.raises(PackError, match="prompt 1 may grow to 34 tokens"):
        generate(model, None, [[2], [3] * 30], max_new_tokens=4)
    assert len(generate(model, None, [[2], [3] * 20], max_new_tokens=4)) == 2
