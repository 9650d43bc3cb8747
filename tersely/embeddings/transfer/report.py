"""What a swap did, and how good the result is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tersely.embeddings.transfer.match import ORIGINS
from tersely.embeddings.transfer.quality import Quality
from tersely.embeddings.transfer.tokens import TokenTable


@dataclass(frozen=True)
class Norms:
    """Lengths of rows of a table.

    Attributes:
        before: median of the old rows that stand for text.
        after: median of the new rows.
        by_origin: median of the new rows of each origin.
    """

    before: float
    after: float
    by_origin: dict[str, float]


@dataclass(frozen=True)
class Language:
    """Text of one language, held out.

    Attributes:
        passages: how many.
        tokens_per_byte_before: with the old tokenizer.
        tokens_per_byte_after: with the new one.
    """

    passages: int
    tokens_per_byte_before: float
    tokens_per_byte_after: float


@dataclass(frozen=True)
class SwapReport:
    """What a swap did.

    Attributes:
        method: how rows were made.
        vocab_size_before: ids of the old tokenizer.
        vocab_size_after: ids of the new one, with the special tokens that it was given.
        tokens_per_byte_before: on held-out text; None without a corpus.
        tokens_per_byte_after: the same with the new tokenizer.
        origins: uint8, ``(V_new,)``: for each row where it comes from, an index into ``ORIGINS``.
        norms: of the input table, and of the head where it is another.
        quality: None without a corpus.
        warnings: sentences.
        tokenizer: the tokenizer to use with the model.
        losses: of each step in which the rows were trained.
        languages: by name, if the corpus was given by language.
        tokens: what each new row was made of.
        checked: what of a written folder was compared; "" in memory.
    """

    method: str
    vocab_size_before: int
    vocab_size_after: int
    tokens_per_byte_before: float | None
    tokens_per_byte_after: float | None
    origins: np.ndarray[Any, Any] = field(repr=False)
    norms: dict[str, Norms]
    quality: Quality | None
    warnings: list[str]
    tokenizer: Any = field(repr=False)
    losses: list[float] = field(default_factory=list, repr=False)
    languages: dict[str, Language] = field(default_factory=dict)
    tokens: TokenTable | None = field(default=None, repr=False)
    checked: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """How many rows are of each origin."""
        found = np.bincount(self.origins, minlength=len(ORIGINS))
        return {str(origin): int(number) for origin, number in zip(ORIGINS, found, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """All figures, for JSON; of the origins the counts, of the losses the number and the means of both ends."""
        plain = (
            "method",
            "vocab_size_before",
            "vocab_size_after",
            "tokens_per_byte_before",
            "tokens_per_byte_after",
        )
        return {name: getattr(self, name) for name in plain} | {
            "rows": self.counts,
            "norms": {name: asdict(norms) for name, norms in self.norms.items()},
            "quality": asdict(self.quality) if self.quality else None,
            "languages": {name: asdict(language) for name, language in self.languages.items()},
            "distill": dict(zip(("steps", "loss_first", "loss_last"), self._trained(), strict=True))
            if self.losses
            else None,
            "checked": self.checked,
            "warnings": list(self.warnings),
        }

    def _trained(self) -> tuple[int, float, float]:
        """The number of steps, and the mean loss of the first and of the last tenth."""
        part = max(len(self.losses) // 10, 1)
        return len(self.losses), sum(self.losses[:part]) / part, sum(self.losses[-part:]) / part

    def __str__(self) -> str:
        rows = ", ".join(f"{number:,} {origin}" for origin, number in self.counts.items() if number)
        lines = [
            f"{self.vocab_size_before:,} ids became {self.vocab_size_after:,} by {self.method}",
            f"rows: {rows}",
        ]
        if self.tokens_per_byte_before is not None:
            lines.append(
                f"tokens per byte: {self.tokens_per_byte_before:.4f} before, {self.tokens_per_byte_after:.4f} after"
            )
        lines += [
            f"  {name}: {one.tokens_per_byte_before:.4f} before, {one.tokens_per_byte_after:.4f} after"
            for name, one in self.languages.items()
        ]
        if self.losses:
            lines.append(
                "rows trained in {:,} steps: loss {:.4f} at first, {:.4f} at last".format(*self._trained())
            )
        for name, norms in self.norms.items():
            parts = ", ".join(f"{origin} {value:.3g}" for origin, value in norms.by_origin.items())
            lines.append(
                f"median length of rows, {name}: {norms.before:.3g} before, {norms.after:.3g} after ({parts})"
            )
        lines += [f"checked: {self.checked}"] if self.checked else []
        lines += _measured(self.quality) + [f"warning: {sentence}" for sentence in self.warnings]
        return "\n".join(lines)


def norms_of(
    before: np.ndarray[Any, Any], after: np.ndarray[Any, Any], origins: np.ndarray[Any, Any]
) -> Norms:
    """What is told of the lengths of the old rows of text and of all new rows, ``(V_new,)``."""
    kinds = [(str(origin), after[origins == number]) for number, origin in enumerate(ORIGINS)]
    by_origin = {name: float(np.median(lengths)) for name, lengths in kinds if len(lengths)}
    return Norms(float(np.median(before)), float(np.median(after)), by_origin)


def _measured(quality: Quality | None) -> list[str]:
    if quality is None:
        return []
    where = f"on {quality.passages:,} held-out passages"
    if quality.cosine is not None:
        near = (
            ""
            if quality.neighbours is None
            else f", nearest neighbours the same for {quality.neighbours:.1%}"
        )
        if quality.spearman is not None:
            near += f", rank correlation of similarities {quality.spearman:.4f}"
        return [f"cosine to the original states: {quality.cosine:.4f} {where}{near}"]
    return [
        f"bits per byte: {quality.bits_per_byte_before:.4f} before, {quality.bits_per_byte_after:.4f} after, {where}"
    ]
