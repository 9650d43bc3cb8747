r"""The training job: documents in, a tokenizer.json out, and a report of what it does to the corpus.

sources -> batches of texts -> word counts (bounded memory, then disk) -> BPE, WordPiece or Unigram
                   \-> samples (bounded) -> superwords; the report
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import tokenizers

from tersely.corpus.blocks import BlockSample
from tersely.corpus.measure import Groups, Measures, measure
from tersely.corpus.read import Source
from tersely.corpus.tally import Tally
from tersely.errors import CorpusError, UsageError, choose
from tersely.shards.atomic import replace_file
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.train import Split, WordCounter, WordCounts, bpe, unigram, wordpiece

SMALLEST_MEMORY = 1 << 24
DEFAULT_MEMORY = 2 << 30
DEFAULT_SPECIALS = ("<|endoftext|>",)

_SUPERWORD_SAMPLE = 64 << 20
_REPORT_SAMPLE = 32 << 20


class Vocabulary(StrEnum):
    """The kind of a vocabulary."""

    BPE = "bpe"
    """Byte-level BPE."""
    WORDPIECE = "wordpiece"
    """WordPiece with BERT's rules."""
    UNIGRAM = "unigram"
    """Unigram on bytes."""


@dataclass(frozen=True)
class TrainProgress:
    """How far a job is: of ``counting``, in stored bytes, or of ``merging``, in merges; ``total`` is 0 if unknown."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a vocabulary besides the corpus.

    Attributes:
        kind: ``bpe``, ``wordpiece`` or ``unigram``.
        vocab_size: ids in it, special tokens included; fewer if the corpus is too small for them.
        specials: special tokens; None is ``<|endoftext|>``, or nothing but BERT's own for ``wordpiece``.
        min_count: pairs that occur less often are not merged (``bpe``, ``wordpiece``).
        superwords: also learn tokens of up to four words (``bpe``).
        superword_share: the share of the vocabulary for them.
        lowercase: whether ``wordpiece`` lowers letters and strips accents.
        memory: bytes that the counts and the training may take, each in its time. Counts that need more go to disk,
            and the rarest words are left out of the training if need be.

    Raises:
        UsageError: an argument is not allowed.
    """

    kind: Vocabulary
    vocab_size: int
    specials: tuple[str, ...] | None = None
    min_count: int = 2
    superwords: bool = False
    superword_share: float = 0.2
    lowercase: bool = True
    memory: int = DEFAULT_MEMORY

    def __post_init__(self) -> None:
        choose(Vocabulary, self.kind)
        if self.superwords and self.kind != Vocabulary.BPE:
            raise UsageError(f"superwords are learned by 'bpe', not by {str(self.kind)!r}")
        if self.vocab_size >= 1 << 24:
            raise UsageError(f"vocab_size {self.vocab_size} must be below {1 << 24}")
        if self.memory < SMALLEST_MEMORY:
            raise UsageError(f"memory of {self.memory} bytes is too little: give {SMALLEST_MEMORY} or more")
        if self.kind != Vocabulary.WORDPIECE:
            bpe.merges_in(self.vocab_size, self.given_specials)

    @property
    def given_specials(self) -> tuple[str, ...]:
        """The special tokens to make."""
        if self.specials is not None:
            return self.specials
        return () if self.kind == Vocabulary.WORDPIECE else DEFAULT_SPECIALS


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a training job read and made.

    Attributes:
        vocab_size: ids in the vocabulary.
        documents: texts that were read.
        records: records that were read, those included that are no documents.
        rejected: records that are no documents.
        reasons: places and reasons of the first few of these.
        broken_off: inputs that ended before their end, each with the reason.
        words: words in the corpus (for ``wordpiece``, those of its kept chunks).
        unique_words: different ones.
        dropped_words: different ones that were left out of the training for lack of memory, the rarest.
        dropped_share: how much of all words those are.
        spilled: whether counts went to disk.
        measures: what the vocabulary does to the corpus.
    """

    vocab_size: int
    documents: int
    records: int
    rejected: int
    reasons: list[str]
    broken_off: list[str]
    words: int
    unique_words: int
    dropped_words: int
    dropped_share: float
    spilled: bool
    measures: Measures


def train(
    sources: Sequence[Source],
    out: str | Path,
    settings: Settings,
    *,
    by: str | None = None,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Trains a vocabulary and writes it as a ``tokenizer.json``.

    The same documents give the same bytes, whatever the memory and the order of the documents, as long as no word is
    dropped for lack of memory and the sample for superwords is the same (it is a thirty-second of the memory, at
    most 64 MiB).

    Args:
        sources: the inputs, see ``find_sources``.
        out: the file to make; it must not exist. What does not fit in memory is put beside it until the end.
        settings: what to train.
        by: a field of the sources by which the report tells documents apart, such as a language.
        on_progress: called after every batch, and now and then while merging.

    Raises:
        CorpusError: ``out`` exists or cannot be written.
        UsageError: the vocabulary has no room for its alphabet, or a special token cannot be used.
    """
    out = claim(Path(out))
    tell = on_progress or (lambda progress: None)
    total = sum(source.size for source in sources)
    split = Split.BLANKS if settings.kind == Vocabulary.WORDPIECE else Split.GPT2
    with WordCounter(settings.memory // 2, split, out.parent) as counter:
        groups = Groups(min(_REPORT_SAMPLE, settings.memory // 32), len(sources))
        tally = Tally(
            counter,
            groups,
            BlockSample(min(_SUPERWORD_SAMPLE, settings.memory // 32)) if settings.superwords else None,
            by,
        )
        tally.read(sources, lambda done: tell(TrainProgress("counting", done, total)))
        words = _words(settings, counter, out.parent)
        spilled = counter.spilled
    tokenizer = _trained(settings, words, tally, out.parent, tell)
    model = tokenizer.to_str(pretty=True) + "\n"
    measures = measure(SubwordTokenizer(model, fast=False), groups, tokenizer.token_to_id("[UNK]"))
    replace_file(out, model.encode())
    return TrainReport(
        vocab_size=tokenizer.get_vocab_size(),
        documents=tally.documents,
        records=tally.records,
        rejected=tally.rejected,
        reasons=tally.reasons,
        broken_off=tally.broken_off,
        words=words.occurrences,
        unique_words=words.unique,
        dropped_words=words.dropped,
        dropped_share=words.dropped_occurrences / max(1, words.occurrences),
        spilled=spilled,
        measures=measures,
    )


def claim(out: Path) -> Path:
    """``out``, in a folder that is made if need be; raises CorpusError if there is something, or it cannot be made."""
    if out.exists():
        raise CorpusError(f"{out} exists: choose another --out, or remove it first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{out.parent} cannot be made: {error.strerror}") from error
    return out


def _words(settings: Settings, counter: WordCounter, folder: Path) -> WordCounts:
    """The words to train on, once all texts are counted."""
    if settings.kind == Vocabulary.BPE:
        return counter.finish(settings.memory, bpe.PRICE)
    if settings.kind == Vocabulary.UNIGRAM:
        return counter.finish(settings.memory, unigram.PRICE)
    chunks = counter.finish(settings.memory // 4, wordpiece.CHUNK_PRICE)
    memory = settings.memory // 2
    with wordpiece.bert_words(chunks, memory, lowercase=settings.lowercase, folder=folder) as words:
        return words.finish(settings.memory, wordpiece.PRICE)


def _trained(
    settings: Settings,
    words: WordCounts,
    tally: Tally,
    folder: Path,
    tell: Callable[[TrainProgress], None],
) -> tokenizers.Tokenizer:
    size, specials = settings.vocab_size, settings.given_specials

    def merging(done: int) -> None:
        tell(TrainProgress("merging", done, size))

    if settings.kind == Vocabulary.UNIGRAM:
        return unigram.train_unigram(words, size, specials=specials)
    if settings.kind == Vocabulary.WORDPIECE:
        return wordpiece.train_wordpiece(
            words,
            size,
            specials=specials,
            lowercase=settings.lowercase,
            min_count=settings.min_count,
            on_progress=merging,
        )
    return bpe.train_bpe(
        words,
        size,
        specials=specials,
        min_count=settings.min_count,
        superwords=_phrases(tally.phrases, settings.memory, folder) if tally.phrases else None,
        superword_share=settings.superword_share,
        on_progress=merging,
    )


def _phrases(sample: BlockSample, memory: int, folder: Path) -> WordCounts:
    with WordCounter(memory // 4, Split.LOOSE, folder) as counter:
        for texts in sample.texts():
            counter.add(texts)
        return counter.finish(memory, bpe.PRICE)
