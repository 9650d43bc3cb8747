"""Generation of words: one of each document in a round, spelled symbol by symbol, over caches at both levels.

    round    states of running documents --Speller, over a cache of the word--> a word each, or the end of the document
             the words --WordPool, Stack over the cache of the documents--> the next states

Documents end in different rounds, words at different symbols; what has ended is computed no more.

Legend: ``N`` documents, ``n`` of them still running, ``p`` slots, ``D`` width, ``V`` kinds of symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tersely.embeddings.words.batch import WordBatch
from tersely.ragged import Ragged
from tersely.tokenize import Tokenizer

if TYPE_CHECKING:
    from tersely.embeddings.words.model import WordPooledLM
    from tersely.embeddings.words.speller import Speller


class Chooser:
    """Symbols from logits; what is drawn for a document depends on the seed, its number and its own logits alone."""

    def __init__(self, temperature: float, seed: int, documents: int) -> None:
        self._temperature = temperature
        self._streams = [np.random.default_rng([seed, number]) for number in range(documents)]

    def choose(self, logits: Tensor, documents: list[int]) -> list[int]:
        """A symbol for each of these documents from logits ``(n, V)``."""
        if not self._temperature:
            return logits.argmax(-1).tolist()
        sums = (logits.double() / self._temperature).softmax(-1).cumsum(-1)
        drawn = [self._streams[number].random() for number in documents]
        places = torch.tensor(drawn, dtype=torch.float64, device=sums.device) * sums[:, -1]
        return torch.searchsorted(sums, places[:, None], right=True)[:, 0].tolist()


@torch.no_grad()
def generate_words(
    model: WordPooledLM,
    batch: WordBatch,
    max_new_words: int,
    max_new_bytes: int | None,
    chooser: Chooser,
    tokenizer: Tokenizer | None,
) -> list[bytes]:
    """What each document goes on with; see ``WordPooledLM.generate``."""
    state, cache = model.prefill(batch)
    texts = [b""] * len(state)
    running = [] if max_new_bytes == 0 else list(range(len(state)))
    for rounds_left in reversed(range(max_new_words)):
        if not running:
            break
        rows = torch.tensor(running, device=state.device)
        words = spell(model.speller, state[rows], model.config.max_word_bytes, chooser, running)
        spelled = _as_bytes(words, tokenizer)
        for number, word in zip(running, spelled, strict=True):
            texts[number] += word
        read = {
            number: text
            for number, text, word in zip(running, spelled, words, strict=True)
            if word and (max_new_bytes is None or len(texts[number]) < max_new_bytes)
        }
        running = list(read)
        if running and rounds_left:
            rows = torch.tensor(running, device=state.device)
            state = state.index_copy(0, rows, model.step(list(read.values()), cache, rows))
    return [text[:max_new_bytes] for text in texts]


def spell(
    speller: Speller, state: Tensor, longest: int, chooser: Chooser, documents: list[int]
) -> list[list[int]]:
    """The symbols of a word of at most ``longest`` from each state ``(n, p, D)``; none where the document ends."""
    end_of_word = speller.end_of_word
    logits, cache = speller.begin(state, state.shape[1] + longest)
    logits[:, end_of_word] = -torch.inf
    words: list[list[int]] = [[] for _ in documents]
    going = list(range(len(documents)))
    while going:
        chosen = chooser.choose(logits, [documents[i] for i in going])
        said = [(i, symbol) for i, symbol in zip(going, chosen, strict=True) if symbol < end_of_word]
        for i, symbol in said:
            words[i].append(symbol)
        said = [(i, symbol) for i, symbol in said if len(words[i]) < longest]
        going = [i for i, _ in said]
        if said:
            rows, symbols = torch.tensor(said, device=state.device).unbind(1)
            logits = speller.step(symbols, cache, rows)
            logits[:, end_of_word + 1] = -torch.inf
    return words


def _as_bytes(words: list[list[int]], tokenizer: Tokenizer | None) -> list[bytes]:
    if tokenizer is None:
        return [bytes(word) for word in words]
    return tokenizer.decode(Ragged.from_rows(words, np.int64))
