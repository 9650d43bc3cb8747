"""The ids in a model's settings (bos, eos, padding and others), brought to the new vocabulary."""

from __future__ import annotations

from typing import Any

from tersely.embeddings.transfer.specials import parts_of

_LISTS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "forced_decoder_ids", "sequence_bias")
"""Settings of generation that name many ordinary ids: no counterpart can be promised for them."""


def translate_settings(model: Any, source: Any, used: Any) -> list[str]:
    """Rewrites the ids in ``config`` and ``generation_config``; returns what could not be kept, a sentence each.

    Args:
        model: is changed.
        source: the tokenizer that the ids belong to.
        used: the tokenizer that they shall belong to.
    """
    lost = list[str]()
    settings = [model.config, model.config.get_text_config(), getattr(model, "generation_config", None)]
    for part in {id(part): part for part in settings if part is not None}.values():
        name = type(part).__name__
        for key in [key for key in vars(part) if key.endswith("_token_id")]:
            value = getattr(part, key)
            if value is None:
                continue
            new = [
                _translated(number, key, source, used)
                for number in (value if isinstance(value, list) else [value])
            ]
            kept = [number for number in new if number is not None]
            setattr(part, key, (kept or None) if isinstance(value, list) else new[0])
            if len(kept) < len(new):
                lost.append(
                    f"{name}.{key} was {value}, a token that the new vocabulary lacks: set it, if it is needed"
                )
        for key in _LISTS:
            if getattr(part, key, None):
                setattr(part, key, None)
                lost.append(f"{name}.{key} named ids of the old vocabulary and was cleared: set it again")
    return lost


def _translated(number: int, key: str, source: Any, used: Any) -> int | None:
    """The id of the same special token, or of that which has its part: that which the setting names, if it has several."""
    token = source.convert_ids_to_tokens(number) if 0 <= number < len(source) else None
    vocabulary = used.get_vocab()
    if token in vocabulary and token in used.all_special_tokens:
        return vocabulary[token]
    parts = parts_of(used)
    same = [parts[part] for part, other in parts_of(source).items() if other == token and part in parts]
    named = parts.get(key.removesuffix("_id"))
    same = [named] if named in same else same
    return vocabulary.get(same[0] if same else token)
