"""Our byte tokenizer as a fast tokenizer of transformers, with the same ids: a BPE of 256 letters that merges nothing.

So it is matched, written and loaded like any other. Ids that are no byte become special tokens.
"""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tersely.tokenize import ByteTokenizer
from tersely.tokenize.bytelevel import byte_characters


def fast_bytes(tokenizer: ByteTokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer of a preset: byt5, blt, hnet or evabyte. It puts nothing around a text."""
    letters, size = byte_characters(), tokenizer.vocab_size
    data, special = tokenizer.bytes_of(np.arange(size))
    given = {"pad_token": tokenizer.pad_id, "bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
    parts = {part: number for part, number in given.items() if number is not None}
    names = {number: f"<reserved_{number}>" for number in np.flatnonzero(special).tolist()}
    names |= {number: f"<{part.removesuffix('_token')}>" for part, number in parts.items()}
    spelled = [names[number] if number in names else letters[data[number]] for number in range(size)]
    vocabulary = {token: number for number, token in enumerate(spelled)}
    library = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    library.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    library.add_special_tokens([names[number] for number in sorted(names)])
    known = {part: names[number] for part, number in parts.items()}
    return PreTrainedTokenizerFast(tokenizer_object=library, **known)
