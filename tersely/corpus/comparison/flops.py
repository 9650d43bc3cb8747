"""What a decoder spends on training on documents: the usual count of floating-point operations.

Forward and backward pass, with ``n`` layers of width ``d``, a vocabulary of ``V`` ids, and documents of ``t`` tokens that do
not see each other (``T`` tokens in all):

    linear layers   6 N T,  N = 12 n d^2        Kaplan et al. 2020 (arXiv 2001.08361), section 2.1 and table 1
    attention       12 n d * sum of t^2 / 2     Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B
    output layer    6 d V T

The half is ours: under a causal mask a token sees half of its document, on average. What is looked up, normalised or
activated is left out, as in both papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tersely.errors import UsageError


class Flops(NamedTuple):
    """Floating-point operations of one training pass over the tokens, by part of the model."""

    linear: float
    attention: float
    output: float

    @property
    def total(self) -> float:
        """Of the whole model."""
        return self.linear + self.attention + self.output


@dataclass(frozen=True)
class ModelShape:
    """A decoder with feed-forward layers four times as wide as the model; by default that of the small GPT-2, 124 million
    parameters with its own vocabulary.

    Raises:
        UsageError: ``layers`` or ``hidden`` is below 1.
    """

    layers: int = 12
    hidden: int = 768

    def __post_init__(self) -> None:
        if self.layers < 1 or self.hidden < 1:
            raise UsageError(f"a model of {self.layers} layers of width {self.hidden}: both are at least 1")

    @property
    def parameters(self) -> int:
        """Those of the linear layers, embeddings not counted: ``12 n d^2``."""
        return 12 * self.layers * self.hidden**2

    def flops(self, tokens: float, squares: float, vocab_size: int) -> Flops:
        """One training pass over ``tokens`` tokens, in documents whose squared lengths sum to ``squares``."""
        return Flops(
            linear=6 * self.parameters * tokens,
            attention=12 * self.layers * self.hidden * squares / 2,
            output=6 * self.hidden * vocab_size * tokens,
        )
