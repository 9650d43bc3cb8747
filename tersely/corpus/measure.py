"""What a vocabulary does to a corpus: bytes per token by source and by language, unused and longest tokens."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tersely.corpus.blocks import BlockSample
from tersely.ragged import Ragged
from tersely.tokenize import Tokenizer

OTHERS = "(others)"
"""Where the documents of further sources and languages are counted, once there are too many to tell apart."""

_MOST_GROUPS = 512
_SMALLEST_BOUND = 1 << 15
_LONGEST = 20
_UNUSED = 20


class Groups:
    """A bounded sample for each source and each value of a field.

    Args:
        memory: bytes of text that all samples may hold, about.
        sources: how many sources there will be.
    """

    def __init__(self, memory: int, sources: int) -> None:
        self._bound = max(_SMALLEST_BOUND, memory // max(1, min(2 * sources, _MOST_GROUPS)))
        self._most = max(1, min(_MOST_GROUPS, memory // _SMALLEST_BOUND))
        self._memory = memory
        self.samples: dict[tuple[str, str], BlockSample] = {}

    def add(self, source: str, value: str, text: str) -> None:
        """Puts a text into the sample of its group."""
        key = (source, value)
        if key not in self.samples and len(self.samples) >= self._most:
            key = (OTHERS, OTHERS)
        if key not in self.samples:
            self.samples[key] = BlockSample(self._bound)
            while self._bound * len(self.samples) > self._memory and self._bound > _SMALLEST_BOUND:
                self._bound //= 2  # more languages than was thought: all samples shrink
                for sample in self.samples.values():
                    sample.shrink(self._bound)
        self.samples[key].add(text)


@dataclass(frozen=True)
class Share:
    """A source or a language: its bytes, and bytes per token as measured on its sample (0 if that is empty)."""

    name: str
    bytes: int
    bytes_per_token: float


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What a vocabulary does to a corpus, measured on samples of what it was trained on.

    Attributes:
        bytes: of the corpus.
        sampled_bytes: of it that were encoded.
        bytes_per_token: of the corpus, its groups weighted by their bytes.
        sources: by source.
        values: by the value of the field that was asked for.
        used_tokens: how many different tokens occur in the samples.
        unused: how many do not, special tokens and those of one byte left out.
        unused_examples: some of these, as text.
        unknown_share: share of the tokens that are unknown.
        longest: the longest tokens, as text.
    """

    bytes: int
    sampled_bytes: int
    bytes_per_token: float
    sources: list[Share]
    values: list[Share]
    used_tokens: int
    unused: int
    unused_examples: list[str]
    unknown_share: float
    longest: list[str]


def measure(tok: Tokenizer, groups: Groups, unknown_id: int | None = None) -> Measures:
    """Encodes the samples; ``unknown_id`` is the id of the unknown token, if there is one."""
    used = np.zeros(tok.vocab_size, np.int64)
    by_source: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0])
    by_value: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0])
    overall: list[float] = [0, 0, 0]
    sampled = 0
    for (source, value), sample in groups.samples.items():
        size = tokens = 0
        for texts in sample.texts():
            ids = tok.encode(texts).values
            used += np.bincount(ids, minlength=tok.vocab_size)
            tokens += len(ids)
            size += sum(len(text.encode()) for text in texts)
        sampled += size
        scaled = sample.bytes if tokens else 0  # bytes that the estimate of tokens stands for
        estimate = tokens * sample.bytes / size if tokens else 0.0
        for sums in (by_source[source], by_value[value], overall):
            for place, part in enumerate((sample.bytes, scaled, estimate)):
                sums[place] += part
    rows = Ragged(np.arange(tok.vocab_size), np.arange(tok.vocab_size + 1))
    spelled = tok.decode(rows)
    learned = np.array([len(text) > 1 for text in spelled])
    unused = np.flatnonzero(learned & (used == 0)).tolist()
    longest = sorted(range(tok.vocab_size), key=lambda token: (-len(spelled[token]), token))[:_LONGEST]
    return Measures(
        bytes=int(overall[0]),
        sampled_bytes=sampled,
        bytes_per_token=_share("", overall).bytes_per_token,
        sources=[_share(name, sums) for name, sums in by_source.items()],
        values=sorted(
            (_share(name, sums) for name, sums in by_value.items()), key=lambda share: -share.bytes
        ),
        used_tokens=int((used > 0).sum()),
        unused=len(unused),
        unused_examples=[spelled[token].decode("utf-8", "backslashreplace") for token in unused[:_UNUSED]],
        unknown_share=float(used[unknown_id] / max(1, used.sum())) if unknown_id is not None else 0.0,
        longest=[spelled[token].decode("utf-8", "backslashreplace") for token in longest],
    )


def _share(name: str, sums: list[float]) -> Share:
    size, scaled, tokens = sums
    return Share(name, int(size), scaled / tokens if tokens else 0.0)
