"""Small random models of several families of transformers, alike but for what their attention does."""

import importlib

import torch

SIZES = dict(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, max_position_embeddings=256, pad_token_id=0, bos_token_id=None, eos_token_id=1,
)  # fmt: skip
DECODERS = {
    "Llama": {},
    "Mistral": dict(sliding_window=6),
    "Qwen2": {},
    "Qwen3": {},
    "Gemma2": dict(sliding_window=6, query_pre_attn_scalar=8),
    "Gemma3": dict(
        sliding_window=6, layer_types=["sliding_attention", "full_attention"], query_pre_attn_scalar=8
    ),
    "GPTNeoX": {},
    "Phi3": {},
    "Olmo2": {},
    "GptOss": dict(sliding_window=6, num_local_experts=2, num_experts_per_tok=1),
}
CONFIGS = {"Gemma3": "Gemma3TextConfig"}


def small(family, attention, kind="ForCausalLM", **changes):
    """A random model in fp32; the same weights for the same family."""
    transformers = importlib.import_module("transformers")
    sizes = SIZES | DECODERS.get(family, {}) | changes
    config = getattr(transformers, CONFIGS.get(family, f"{family}Config"))(**sizes)
    config._attn_implementation = attention
    torch.manual_seed(0)
    model = getattr(transformers, family + kind)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "sinks" in name:
                parameter.normal_()
    return model
