"""Chat templates of the public families, and vocabularies that hold their special tokens, made on the spot."""

import json

import tokenizers
from small import TEXTS
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (
    "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if message.role == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + message.content.strip() + ' [/INST]' }}{% else %}"
    "{{ ' ' + message.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
HEADERS = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
PHI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
THINKING = (
    "{% for message in messages %}{% set content = message.content %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' and '</think>' in content and not loop.last %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ content }}{% if message.tool_calls %}{% for call in message.tool_calls %}"
    "{{ '\n<tool_call>\n' + call.function | tojson + '\n</tool_call>' }}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PREFILLED = (
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}{{ '<|im_start|>user\n<result>' + message.content + '</result><|im_end|>\n' }}{% else %}"
    "{{ '<|im_start|>' + message.role + '\n' }}{% if message.role == 'assistant' %}"
    "{{ '<think>' + (message.reasoning_content or '') + '</think>' }}{% endif %}"
    "{{ message.content }}{% for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)  # opens an answer with more than it writes in answers that are there
JOINED = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ '<result>' + message.content + '</result>' }}{% else %}"
    "{% if loop.first or loop.previtem.role != 'tool' %}{{ '<|im_start|>' + message.role + '\n' }}{% endif %}"
    "{{ message.content }}{% for call in message.tool_calls or [] %}{{ '<call>' + call.function.name + '</call>' }}{% endfor %}"
    "{% if not message.tool_calls %}{{ '<|im_end|>\n' }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)  # goes on behind a tool's message without opening another turn
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", *ROLES]


def byte_level(**changes):
    """A byte-level BPE with the special tokens of all families; ``</tool>`` and ``<tool>`` are added, and not special."""
    tok = tokenizers.Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(**{"add_prefix_space": False} | changes)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator([*TEXTS, "user assistant system hello"] * 3, trainer)
    tok.add_special_tokens(["<s>", "</s>", *SPECIALS])
    tok.add_tokens(["<tool>", "</tool>"])
    return tok.to_str()


def metaspace(scheme):
    """A BPE of SentencePiece's kind, whose special tokens take in blanks after them, as those of Phi-3 do."""
    characters = sorted({c for text in [*TEXTS, CHATML, INST, HEADERS] for c in text if not c.isspace()})
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *characters]
    merges = [("\u2581", "h"), ("\u2581", "u"), ("s", "e"), ("\u2581h", "i"), ("\u2581", "\u2581")]
    pieces += [left + right for left, right in merges]
    tok = tokenizers.Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(dict.fromkeys(pieces))},
            merges,
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    if scheme == "normaliser":
        tok.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
    else:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tok.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tok.add_special_tokens(
        [
            "<unk>",
            "<s>",
            "</s>",
            *SPECIALS[:5],
            *(AddedToken(r, rstrip=True, lstrip=r == "<|user|>") for r in ROLES),
        ]
    )
    return tok.to_str()


def word_level():
    """Whole words and signs, all others unknown."""
    words = ["<unk>", "hi", "user", "assistant", "system", "<", "|", ">", "[", "]", "/", "INST", "<s>"]
    tok = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.add_special_tokens(["<unk>", "<s>", "</s>", *SPECIALS])
    return tok.to_str()


def peer_of(content):
    """The same vocabulary in transformers."""
    from transformers import PreTrainedTokenizerFast

    stored = tokenizers.Tokenizer.from_str(content if isinstance(content, str) else json.dumps(content))
    return PreTrainedTokenizerFast(tokenizer_object=stored, bos_token="<s>", eos_token="</s>")
