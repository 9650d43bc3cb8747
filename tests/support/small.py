"""Small texts, tokenizers and models that tests make for themselves."""

TEXTS = [f"Document {i}: " + "word " * (7 * i % 41) + "\u00e9\u4e2d\U0001f600" * (i % 3) for i in range(120)]


def tiny_bpe():
    """A byte-level BPE as tokenizer.json text, trained here on a few words, with one special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def tiny_llama(attention="sdpa", **changes):
    """A random Llama with byte vocabulary, in fp32."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": 384,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 0,
        }
        | changes
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)
