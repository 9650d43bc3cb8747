"""WordPooledLM: a causal transformer over words, which are pooled from their bytes and spelled again.

    bytes          t h e    _ c a t
    WordPool         v         v                 p vectors each
    Stack      | --> h ------> h                 causal over the words of a document, which opens with learned vectors
    Speller    the.  _cat.     $                 each row spells the word behind it

Thawani et al. 2023, "Learn Your Tokens" (arXiv 2310.11628); with ``pool="query"`` and ``head="subword"``, the network of Lee
et al. 2022, Byte2Word (arXiv 2211.12677), as a decoder.

Legend: ``T`` bytes, ``W`` words, ``N`` documents, ``R = W + N`` rows, ``p`` slots, ``D`` width, ``S`` symbols, ``V`` kinds of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import guard_torch_init_functions
from transformers.utils.generic import ModelOutput

from tersely.embeddings.words.batch import WordBatch
from tersely.embeddings.words.config import HeadKind, WordPooledConfig
from tersely.embeddings.words.generate import Chooser, generate_words
from tersely.embeddings.words.layout import Layout, lay_out
from tersely.embeddings.words.pool import WordPool
from tersely.embeddings.words.speller import Speller
from tersely.errors import UsageError
from tersely.kernels import Boundaries, cross_entropy, segment_reduce
from tersely.kernels.segment import positions_of_tokens
from tersely.layers import Stack, StackCache
from tersely.ragged import Ragged
from tersely.tokenize import Tokenizer, segment_pieces
from tersely.tokenize.protocol import Texts


@dataclass
class WordPooledOutput(ModelOutput):
    """What a batch comes to.

    Attributes:
        loss: mean cross-entropy of all symbols: those of words, their ends and the ends of documents; in nats.
        total: the sum of it; over ``num_bytes`` and log 2 it is the bits per byte.
        num_bytes: ``T``.
        logits: ``(S, V)``.
        layout: what should have been said, and from where.
        hidden: ``(R, p, D)``, what the model makes of each row.
    """

    loss: Tensor | None = None
    total: Tensor | None = None
    num_bytes: int | None = None
    logits: Tensor | None = None
    layout: Layout | None = None
    hidden: Tensor | None = None

    def words_right(self) -> Tensor:
        """Whether each word is what the model spells if it always takes the most probable symbol, bool ``(W,)``.

        As long as symbols are right, the next is predicted after them, so one forward pass tells: all symbols of the word
        and its end are the most probable ones. The next-word accuracy is the mean.
        """
        assert self.logits is not None
        assert self.layout is not None
        wrong = (self.logits.argmax(-1) != self.layout.symbols).float()
        return segment_reduce(wrong, self.layout.cu_symbols, "max")[self.layout.spelled] == 0


class WordPooledLM(PreTrainedModel):
    """Predicts words from words, and spells them in parallel.

    Bytes stand for themselves; 256 ends a word and 257 a document. Everything is packed: no word or document is padded, none
    sees another document, and nothing is read back from the device.
    """

    config_class = WordPooledConfig
    config: WordPooledConfig
    base_model_prefix = "model"

    def __init__(self, config: WordPooledConfig) -> None:
        super().__init__(config)
        width, slots = config.hidden_size, config.slots
        self.pool = WordPool(
            width,
            slots,
            config.pool,
            local_width=config.pool_hidden_size,
            layers=config.pool_num_layers,
            heads=config.pool_num_heads,
            places=config.max_word_bytes,
        )
        self.start = nn.Parameter(torch.randn(slots, width) * 0.02)
        self.stack = Stack(width, config.num_hidden_layers, config.num_attention_heads)
        spelled = 256 if config.head == HeadKind.BYTES else config.subword_vocab_size
        assert config.speller_hidden_size is not None
        assert config.speller_num_heads is not None
        self.speller = Speller(
            width,
            slots,
            spelled + 2,
            config.speller_hidden_size,
            config.speller_num_layers,
            config.speller_num_heads,
        )
        self.post_init()

    def init_weights(self) -> None:
        """Parts draw their own weights when they are made."""

    @guard_torch_init_functions()
    def initialize_weights(self) -> None:
        """Draws the weights that ``from_pretrained`` did not find, as parts do; what it found is guarded.

        transformers' own passes over modules that hold no weights but in other modules, such as a ``Stack``, and what is
        missing there would be what the memory held.
        """
        nn.init.normal_(self.start, std=0.02)
        for part in reversed(list(self.modules())):  # what a part says of those inside it counts
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()

    def batch_of(self, texts: Texts, tokenizer: Tokenizer | None = None) -> WordBatch:
        """Texts as words by the model's own rule, on its device.

        Args:
            texts: strings or bytes.
            tokenizer: whose ids ``head="subword"`` spells in.

        Raises:
            UsageError: the tokenizer is given without need, or has more ids than the head.
        """
        self._check(tokenizer)
        words, _ = segment_pieces(texts, self.config.word_rule, max_word_bytes=self.config.max_word_bytes)
        return WordBatch.from_words(words, self.device, tokenizer)

    def forward(
        self,
        input_ids: Tensor | WordBatch | Ragged,
        word_cu_seqlens: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        piece_ids: Tensor | None = None,
        piece_cu_seqlens: Tensor | None = None,
        return_loss: bool = True,
    ) -> WordPooledOutput:
        """Logits and loss of packed documents.

        Args:
            input_ids: ``(T,)``, bytes of words; or all arguments as a ``WordBatch``; or documents -> words -> bytes.
            word_cu_seqlens: as in ``WordBatch``, and so are the others.
            cu_seqlens: where documents begin among the words.
            piece_ids: what ``head="subword"`` is to spell.
            piece_cu_seqlens: where words begin among them.
            return_loss: by this name transformers' ``Trainer`` knows that there is a loss without labels.

        Raises:
            UsageError: boundaries are missing, or the pieces that the head spells in.
        """
        if isinstance(input_ids, Ragged):
            batch = WordBatch.from_words(input_ids, self.device)
        elif isinstance(input_ids, WordBatch):
            batch = input_ids
        elif word_cu_seqlens is None or cu_seqlens is None:
            raise UsageError("bytes alone are no documents of words: give word_cu_seqlens and cu_seqlens")
        else:
            batch = WordBatch(input_ids, word_cu_seqlens, cu_seqlens, piece_ids, piece_cu_seqlens)
        layout = self._layout(batch)
        hidden = self._rows(batch, layout)
        logits = self.speller(hidden, layout.symbols, layout.cu_symbols)
        loss = cross_entropy(logits, layout.symbols) if return_loss else None
        return WordPooledOutput(
            loss=loss,
            total=None if loss is None else loss * len(layout.symbols),
            num_bytes=len(batch.input_ids),
            logits=logits,
            layout=layout,
            hidden=hidden,
        )

    def generate(
        self,
        texts: Texts | WordBatch,
        *,
        max_new_words: int = 64,
        max_new_bytes: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        tokenizer: Tokenizer | None = None,
    ) -> list[bytes]:
        """What documents go on with, until the model ends them.

        The last word of each text counts as a whole one, and the new text begins with a new word. Words longer than
        ``max_word_bytes`` are cut there, as they are in training; with ``head="subword"``, after as many ids.

        Args:
            texts: strings or bytes, or a batch of them.
            max_new_words: words of each document, at most.
            max_new_bytes: bytes of each document, at most; the last word may be cut off.
            temperature: 0 for the most probable symbols, else what logits are divided by.
            seed: of what is drawn; a document draws the same beside any others.
            tokenizer: whose ids ``head="subword"`` spells in.

        Raises:
            UsageError: a number is negative, or the tokenizer is missing, given without need, or has more ids than the head.
        """
        if min(max_new_words, max_new_bytes or 0, temperature, seed) < 0:
            raise UsageError(
                "max_new_words, max_new_bytes, temperature and seed cannot be negative: give 0 or more"
            )
        if self.config.head == HeadKind.SUBWORD and tokenizer is None:
            raise UsageError(
                "head='subword' writes ids of a tokenizer: give the one that it was trained with"
            )
        self._check(tokenizer)
        batch = texts if isinstance(texts, WordBatch) else self.batch_of(texts)
        chooser = Chooser(temperature, seed, len(batch.cu_seqlens) - 1)
        return generate_words(self, batch, max_new_words, max_new_bytes, chooser, tokenizer)

    def prefill(self, batch: WordBatch) -> tuple[Tensor, StackCache]:
        """What the model makes of the last row of each document, ``(N, p, D)``, and the cache of all rows."""
        layout = lay_out(batch.input_ids, batch.word_cu_seqlens, batch.cu_seqlens, self.speller.end_of_word)
        documents = len(layout.opening)
        longest = int(layout.cu_rows.diff().max()) if documents else 0
        cache = self.stack.cache(documents, 2 * longest * self.config.slots)
        return self._rows(batch, layout, cache, longest)[layout.cu_rows[1:] - 1], cache

    def step(self, words: list[bytes], cache: StackCache, rows: Tensor) -> Tensor:
        """What the model makes of one more word for each of these documents ``(n,)``, ``(n, p, D)``."""
        read = Ragged.from_rows(words).to_torch(self.device, torch.int64)
        slots = self.pool(read.values, read.offsets).unbind(1)
        return torch.stack([self.stack.step(slot, cache, rows) for slot in slots], 1)

    def _check(self, tokenizer: Tokenizer | None) -> None:
        """An id past those of the head would be read as the end of a word."""
        if tokenizer is None:
            return
        if self.config.head != HeadKind.SUBWORD:
            raise UsageError("a tokenizer is for head='subword', and this model spells bytes: give none")
        if tokenizer.vocab_size > self.config.subword_vocab_size:
            raise UsageError(
                f"the tokenizer has {tokenizer.vocab_size} ids and the model's head {self.config.subword_vocab_size}: "
                "give the tokenizer that it was trained with, or train with as large a subword_vocab_size"
            )

    def _layout(self, batch: WordBatch) -> Layout:
        ids, cu_ids = batch.input_ids, batch.word_cu_seqlens
        if self.config.head == HeadKind.SUBWORD:
            ids, cu_ids = batch.piece_ids, batch.piece_cu_seqlens
        if ids is None or cu_ids is None:
            raise UsageError(
                "head='subword' spells in pieces: give batch_of the tokenizer, or piece_ids and piece_cu_seqlens"
            )
        return lay_out(ids, cu_ids, batch.cu_seqlens, self.speller.end_of_word)

    def _rows(
        self, batch: WordBatch, layout: Layout, cache: StackCache | None = None, longest: int = 0
    ) -> Tensor:
        """What the model makes of all rows, ``(R, p, D)``; and begins ``cache`` with rows of at most ``longest``."""
        pooled = self.pool(batch.input_ids, batch.word_cu_seqlens)
        rows, p = len(layout.cu_symbols) - 1, self.config.slots
        x = pooled.new_empty(rows, p, self.config.hidden_size)
        x = x.index_copy(0, layout.reading, pooled)
        x = x.index_copy(0, layout.opening, self.start.to(x.dtype).expand(len(layout.opening), -1, -1))
        cu_seqlens = layout.cu_rows * p
        bounds = Boundaries.from_cu_seqlens(cu_seqlens, rows * p, causal=True)
        if cache is not None:
            cache.begin(cu_seqlens, longest * p)
        places = positions_of_tokens(cu_seqlens, rows * p)
        return self.stack(x.flatten(0, 1), bounds, places, cache).unflatten(0, (rows, p))
