"""WordPiece vocabularies in the manner of BERT, from counts of blank-separated chunks.

The tokens are learned as ``tokenizers`` learns them: by byte-pair encoding on characters, of which all but the first
of a word carry ``##`` (not by the likelihood score of Schuster and Nakajima 2012). Unlike there, the symbols have a
fixed order, so that equal counts are decided the same way in every run.

Each different chunk is normalised and split once. That is exact: BertNormalizer and BertPreTokenizer treat spaces,
tabs, line feeds and carriage returns as boundaries, and nothing they do looks across one. (They remove other control
characters, such as form feeds, so that what stands on both sides is one word.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tersely.errors import UsageError
from tersely.ragged import Ragged
from tersely.tokenize.train.count import Price, WordCounter, WordCounts
from tersely.tokenize.train.merges import learn_merges

Array: TypeAlias = np.ndarray[Any, Any]

CHUNK_PRICE, PRICE = Price(2, 24), Price(32, 80)
"""What normalising chunks and what training on words costs."""

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""What every such vocabulary begins with."""

_CHUNKS = 20_000


def bert_words(
    chunks: WordCounts, memory: int, *, lowercase: bool = True, folder: str | Path | None = None
) -> WordCounter:
    """A counter with the words that BERT's rules make of chunks counted with ``Split.BLANKS``; to be closed."""
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    splitter = pre_tokenizers.BertPreTokenizer()
    counter = WordCounter(memory, folder=folder)
    for start in range(0, len(chunks.words), _CHUNKS):
        words: list[bytes] = []
        amounts: list[int] = []
        batch = chunks.words[start : start + _CHUNKS]
        for chunk, count in zip(batch, chunks.counts[start : start + _CHUNKS].tolist(), strict=True):
            text = normalizer.normalize_str(bytes(chunk).decode("utf-8", "replace"))
            for word, _ in splitter.pre_tokenize_str(text):
                words.append(word.encode())
                amounts.append(count)
        if words:
            counter.add_words(Ragged.from_rows(words), np.array(amounts, np.int64))
    return counter


def train_wordpiece(
    words: WordCounts,
    vocab_size: int,
    *,
    specials: Sequence[str] = (),
    lowercase: bool = True,
    min_count: int = 2,
    on_progress: Callable[[int], None] | None = None,
) -> tokenizers.Tokenizer:
    """A tokenizer with at most ``vocab_size`` ids: the special tokens, characters, ``##`` characters, merges.

    The alphabet is the most frequent characters, at most a quarter of the vocabulary; words with others are unknown
    and are not trained on.

    Args:
        words: from ``bert_words``.
        vocab_size: fewer ids are made if no pair is left that occurs ``min_count`` times.
        specials: follow BERT's five.
        lowercase: as given to ``bert_words``.
        min_count: pairs that occur less often are not merged.
        on_progress: called now and then with the number of merges so far.

    Raises:
        UsageError: the vocabulary has no room for the characters, or a special token is given twice or is spelled
            like a learned one.
    """
    first = [*SPECIALS, *specials]
    if len(set(first)) != len(first) or not all(first):
        raise UsageError("a special token is empty or given twice: name each once")
    text = words.words.values.tobytes().decode()
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    begins = words.words.values & 0xC0 != 0x80
    offsets = np.concatenate([[0], np.cumsum(begins)])[words.words.offsets]
    rows = Ragged(points, offsets)
    used, kept = _alphabet(rows, words.counts, vocab_size // 4)
    rows, counts = rows.take(kept), words.counts[kept]
    inner = rows.positions > 0
    continuing = np.unique(rows.values[inner])
    names = first + [chr(point) for point in used] + ["##" + chr(point) for point in continuing]
    if len(names) > vocab_size:
        raise UsageError(
            f"vocab_size {vocab_size} is too small: characters and special tokens need {len(names)}"
        )
    symbols = len(first) + np.searchsorted(used, rows.values)
    symbols[inner] = len(first) + len(used) + np.searchsorted(continuing, rows.values[inner])
    merges = learn_merges(
        Ragged(symbols.astype(np.int32), rows.offsets),
        counts,
        np.ones(len(names), np.int64),
        vocab_size - len(names),
        min_count=min_count,
        on_progress=on_progress,
    )
    for left, right in merges.tolist():
        names.append(names[left] + names[right].removeprefix("##"))
    return _assemble(names, first, lowercase)


def _alphabet(rows: Ragged, counts: Array, most: int) -> tuple[Array, Array]:
    """The characters to keep, in order, and the rows made of them alone."""
    used, places = np.unique(rows.values, return_inverse=True)
    how_often = np.bincount(places, np.repeat(counts, rows.lengths), len(used))
    kept = np.zeros(len(used), np.bool_)
    kept[np.lexsort((used, -how_often))[:most]] = True
    foreign = np.bincount(rows.segment_ids[~kept[places]], minlength=len(rows))
    return used[kept], np.flatnonzero(foreign == 0)


def _assemble(names: list[str], specials: list[str], lowercase: bool) -> tokenizers.Tokenizer:
    vocabulary = {name: place for place, name in enumerate(names)}
    if len(vocabulary) != len(names):
        spelled = next(name for name in specials if name in names[len(specials) :])
        raise UsageError(f"the special token {spelled!r} is also a learned token: spell it in another way")
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(specials)
    return tokenizer
