"""WordPooledConfig: sizes of a WordPooledLM, and how text becomes words for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from transformers import PreTrainedConfig

from tersely.embeddings.words.pool import PoolKind
from tersely.errors import UsageError, choose
from tersely.layers import heads_of
from tersely.tokenize import WordRule


class HeadKind(StrEnum):
    """What the next word is spelled in."""

    BYTES = "bytes"
    """Its bytes."""
    SUBWORD = "subword"
    """The ids of a subword tokenizer (Byte2Word)."""


class WordPooledConfig(PreTrainedConfig):
    """The settings of a ``WordPooledLM``.

    Args:
        hidden_size: width of the model over words.
        num_hidden_layers: its layers.
        num_attention_heads: heads of these.
        slots: vectors of a word, each a position of the model.
        pool: see ``PoolKind``.
        pool_hidden_size: local width of the pool, by default a quarter of the model's.
        pool_num_layers: layers of the pool's transformer, for ``"prefix"``.
        pool_num_heads: its heads, or those of the queries; by default as many as have 64 channels or more.
        head: see ``HeadKind``.
        subword_vocab_size: ids of the subword tokenizer, for ``"subword"``.
        speller_hidden_size: width of the speller, by default half of the model's.
        speller_num_layers: its layers.
        speller_num_heads: its heads, by default as many as have 64 channels or more.
        word_rule: where words start, see ``tersely.tokenize.WordRule``.
        max_word_bytes: longer words are cut.

    Raises:
        UsageError: there is no such pool, head or rule, or the subword head has no vocabulary.
    """

    model_type = "tersely_word_pooled"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    slots: int = 1
    pool: str = "query"
    pool_hidden_size: int | None = None
    pool_num_layers: int = 2
    pool_num_heads: int | None = None
    head: str = "bytes"
    subword_vocab_size: int = 0
    speller_hidden_size: int | None = None
    speller_num_layers: int = 2
    speller_num_heads: int | None = None
    word_rule: str = "gpt2"
    max_word_bytes: int = 32

    def __post_init__(self, **kwargs: Any) -> None:
        """Fills in what other sizes decide, and checks the names."""
        self.pool, self.head = str(choose(PoolKind, self.pool)), str(choose(HeadKind, self.head))
        self.word_rule = str(choose(WordRule, self.word_rule))
        if self.head == HeadKind.SUBWORD and self.subword_vocab_size < 1:
            raise UsageError("head='subword' spells in the ids of a tokenizer: give subword_vocab_size")
        self.pool_hidden_size = self.pool_hidden_size or self.hidden_size // 4
        self.pool_num_heads = self.pool_num_heads or heads_of(self.pool_hidden_size)
        self.speller_hidden_size = self.speller_hidden_size or self.hidden_size // 2
        self.speller_num_heads = self.speller_num_heads or heads_of(self.speller_hidden_size)
        super().__post_init__(**kwargs)
