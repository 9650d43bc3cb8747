"""What a corpus gives a swap: words to learn from, passages to train on, and others to measure on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tersely.embeddings.transfer.passages import Spread, count_words, passages
from tersely.errors import UsageError

MEASURED = 200
"""Held-out passages that are run through the model, before and after."""

Corpus = Iterable[str] | Mapping[str, Iterable[str]]
"""Texts, or texts by language."""


@dataclass(frozen=True)
class Learned:
    """What a corpus gives: how often words occur, passages to measure on, by language and of all, and passages to train on."""

    words: Counter[bytes]
    languages: dict[str, list[str]]
    held_out: list[str]
    trained_on: list[str]


def learn(corpus: Corpus, trained_on: int) -> Learned:
    """Words of nine passages in ten; of the others, as many of each language as will be measured, from all over it.

    Args:
        corpus: is read once.
        trained_on: passages to keep of the nine in ten, at most.

    Raises:
        UsageError: it holds something that is no text.
    """
    words, languages, train = Counter[bytes](), dict[str, list[str]](), Spread(max(trained_on, 1))
    for name, texts in _by_language(corpus).items():
        held_out = Spread(MEASURED)
        for passage, out in passages(_strings(texts)):
            if out:
                held_out.add(passage)
                continue
            count_words(words, passage)
            if trained_on:
                train.add(passage)
        languages[name] = held_out.chosen()
    together = [passage for held in languages.values() for passage in held]
    number = min(len(together), MEASURED)
    chosen = [together[place * len(together) // number] for place in range(number)]
    return Learned(words, languages if isinstance(corpus, Mapping) else {}, chosen, train.chosen())


def _by_language(corpus: Corpus) -> Mapping[str, Iterable[str]]:
    return corpus if isinstance(corpus, Mapping) else {"": corpus}


def _strings(texts: Iterable[Any]) -> Iterator[str]:
    """The texts, none of which may be a path."""
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(
                f"the corpus holds {text!r}, no text: give strings; tersely.corpus.read_texts(paths) has those of files"
            )
        yield text
