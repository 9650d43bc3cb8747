"""Leaks: our batches let no document see another; transformers' own collator does, and the check finds it."""

from itertools import product

import pytest
import torch
from small import tiny_llama
from transformers import AutoModelForCausalLM, DataCollatorWithFlattening
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tersely.errors import PackError
from tersely.pack import PackedCollator, check_isolation

SIZES = dict(vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
FAMILIES = {
    "llama": dict(num_key_value_heads=2),
    "mistral": dict(num_key_value_heads=2, sliding_window=8),
    "qwen2": dict(num_key_value_heads=2),
    "qwen3": dict(num_key_value_heads=2, head_dim=16),
    "gemma2": dict(num_key_value_heads=2, head_dim=16, sliding_window=8),
    "gemma3_text": dict(num_key_value_heads=2, head_dim=16, sliding_window=8),
    "gpt_neox": {},
    "phi3": dict(num_key_value_heads=2, pad_token_id=0),
    "olmo2": dict(num_key_value_heads=2),
    "gpt2": dict(n_embd=64, n_layer=2, n_head=4, n_positions=256),
}


def model_of(family, attention):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**SIZES | FAMILIES[family])
    try:
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    except ValueError as error:
        pytest.skip(f"transformers has no {attention} for {family}: {str(error)[:60]}")


def flattened(rows):
    """What transformers' own collator makes of the same documents."""
    documents = torch.split(rows[0]["input_ids"], rows[0]["seq_lengths"])
    return DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)(
        [{"input_ids": document.tolist()} for document in documents]
    )


@pytest.mark.parametrize(
    ("family", "attention"),
    # flex is compiled for each family, which takes as long as all the others: one plain, one with windows and soft-caps
    [*product(FAMILIES, ["eager", "sdpa"]), ("llama", "flex_attention"), ("gemma2", "flex_attention")],
)
def test_our_batches_do_not_leak(family, attention):
    report = check_isolation(model_of(family, attention))
    assert report, str(report)
    assert len(report.settings) == 4


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_logits_are_those_of_each_document_alone(attention):
    for family in ("llama", "mistral", "gemma3_text"):
        model = model_of(family, attention).eval()
        documents = [torch.randint(300, (n,)) for n in (7, 23, 1, 40)]
        row = {"input_ids": torch.cat(documents), "seq_lengths": [len(d) for d in documents]}
        batch = PackedCollator(model)([row])
        for cache in (False, True):
            with torch.no_grad():
                packed = batch.split(model(**batch, use_cache=cache).logits)
                for document, logits in zip(documents, packed, strict=True):
                    alone = model(input_ids=document[None], use_cache=False).logits[0]
                    assert torch.allclose(logits, alone, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_own_collator_leaks_with_a_cache(attention):
    report = check_isolation(tiny_llama(attention), flattened)
    assert report.leaks
    assert {(s.use_cache, s.leaks) for s in report.settings} == {(False, False), (True, True)}
    assert "LEAKS" in str(report)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_all_ones_mask_leaks(attention):
    def with_ones(rows):
        batch = flattened(rows)
        return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}

    report = check_isolation(tiny_llama(attention), with_ones, use_cache=[False])
    assert report.leaks


def test_a_batch_without_boundaries_leaks():
    report = check_isolation(
        tiny_llama(), lambda rows: {"input_ids": rows[0]["input_ids"][None]}, use_cache=[False]
    )
    assert report.leaks


def test_state_that_runs_through_a_row_is_found_and_warned_of():
    from transformers import JambaConfig, JambaForCausalLM

    shape = dict(
        num_key_value_heads=2, attn_layer_offset=1, attn_layer_period=2, num_experts=1, num_experts_per_tok=1
    )
    config = JambaConfig(**SIZES, **shape, use_mamba_kernels=False, mamba_d_state=4, mamba_dt_rank=4)
    model = JambaForCausalLM._from_config(config, attn_implementation="sdpa")
    with pytest.warns(UserWarning, match=r"linear_attention layers.*check_isolation"):
        report = check_isolation(model, lengths=(5, 7))
    assert report.leaks


def test_dropout_is_not_taken_for_a_leak():
    report = check_isolation(tiny_llama(attention_dropout=0.3), training=[True])
    assert report, str(report)


def test_the_model_is_left_as_it_was():
    model = tiny_llama().eval()
    model.model.layers[0].train()
    modes = [module.training for module in model.modules()]
    check_isolation(model)
    assert [module.training for module in model.modules()] == modes


def test_half_precision_is_judged_by_its_own_rounding():
    model = tiny_llama().to(torch.bfloat16)
    assert check_isolation(model)
    assert check_isolation(model, flattened).leaks
    assert check_isolation(model, lambda rows: {"input_ids": rows[0]["input_ids"][None]}).leaks


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_model_whose_outputs_say_nothing_is_no_isolated_model(value):
    model = tiny_llama()
    model.model.norm.weight.data[:] = value
    with pytest.raises(PackError, match="nothing can be told"):
        check_isolation(model)


def test_one_document_cannot_leak():
    with pytest.raises(PackError, match="at least two"):
        check_isolation(tiny_llama(), lengths=[5])
