"""Whether two tokenizers cut numbers alike: where they do not, a model's arithmetic is lost with its tokenizer."""

from __future__ import annotations

from tersely.embeddings.transfer.pieces import Decomposition

_NUMBERS = ("1234567", "31415926", "20261128", "1000", "42")


def digit_difference(old: Decomposition, new: Decomposition) -> str | None:
    """A sentence on the first number that two vocabularies cut differently; None if there is none."""
    for number in _NUMBERS:
        before, after = _cut(old, number), _cut(new, number)
        if before != after:
            return (
                f"numbers are cut differently ({number} was {before} and is {after}), which costs a model its arithmetic: "
                "take a tokenizer with the same rule, or train the model further"
            )
    return None


def _cut(pieces: Decomposition, number: str) -> str:
    found = [piece.decode().strip() for piece in pieces.cut(b" " + number.encode())]
    return "|".join(piece for piece in found if piece)
