"""A slow, plain twin of the merge loop: counts all pairs anew before each merge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def learn_merges_slowly(
    sequences: Sequence[Sequence[int]],
    counts: Sequence[int],
    weights: Sequence[int],
    how_many: int,
    *,
    given: Sequence[tuple[int, int]] = (),
    min_count: int = 1,
    max_weight: int = 1 << 62,
) -> list[tuple[int, int]]:
    """The merges of ``learn_merges``, in time proportional to merges times symbols.

    Pairs are counted as ``tokenizers`` counts them: a run of three equal symbols has the pair twice.
    """
    rows = [list(row) for row in sequences]
    weight = list(weights)
    merges: list[tuple[int, int]] = []
    while len(merges) < how_many:
        if len(merges) < len(given):
            best = given[len(merges)]
        else:
            totals: Counter[tuple[int, int]] = Counter()
            for row, count in zip(rows, counts, strict=True):
                for pair in zip(row, row[1:], strict=False):
                    totals[pair] += count
            allowed = [
                (-total, pair)
                for pair, total in totals.items()
                if total >= min_count
                and weight[pair[0]] + weight[pair[1]] <= max_weight
                and pair not in merges
            ]
            if not allowed:
                break
            best = min(allowed)[1]
        merges.append(best)
        rows = [_merged(row, best, len(weight)) for row in rows]
        weight.append(weight[best[0]] + weight[best[1]])
    return merges


def _merged(row: list[int], pair: tuple[int, int], new: int) -> list[int]:
    merged: list[int] = []
    place = 0
    while place < len(row):
        found = tuple(row[place : place + 2]) == pair
        merged.append(new if found else row[place])
        place += 2 if found else 1
    return merged
