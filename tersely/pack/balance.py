"""Steps whose ranks have equal work: with many ranks, the slowest one decides how long a step takes.

A row costs what its tokens cost in the linear layers, and what its documents cost in attention, which grows with the
square of their lengths. So full rows differ: one long document costs more than a hundred short ones.

    one window: rows by cost      9 8 | 7 5 | 4 4 | 3 1       2 ranks, 4 steps
    steps                         the row of rank 0, of rank 1: the larger one to the rank that has less so far
      9 8                         rank 0:  9 5 4 3  = 21
      5 7                         rank 1:  8 7 4 1  = 20
      4 4
      3 1                         then the steps are shuffled

Rows of a step are neighbours in the window's order of costs, so ranks that wait for each other after every row (FSDP)
wait little; and rank by rank the sums over a window are nearly equal, for ranks that wait once for several rows (DDP
with gradient accumulation). A window of as many steps as are accumulated leaves every update with rows of all costs,
as a random order has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tersely.errors import UsageError


@dataclass(frozen=True)
class Balance:
    """How the work of a row is estimated, and over how many steps it is balanced.

    Attributes:
        hidden_size: width of the model. A layer does ``24 * hidden_size**2`` floating point operations for a token (8
            in the four projections of attention and 16 in an MLP of four times the width) and ``4 * hidden_size`` for
            each earlier token of its document, which there are ``length / 2`` of on average; so a row costs
            ``12 * hidden_size * tokens + sum(length**2)`` in units of ``2 * hidden_size`` operations. Narayanan et al.,
            "Efficient Large-Scale Language Model Training" (SC 2021), appendix, for a causal mask. Give more than the
            width where attention is cheaper than that (sliding windows), and less where the MLP is.
        window: steps that are balanced together, each a row for every rank. More make ranks more equal, and steps
            less alike; the number of rows that a rank accumulates before an update, or a multiple, keeps updates mixed.

    Raises:
        UsageError: one is not positive, or too large.
    """

    hidden_size: int = 2048
    window: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.hidden_size <= 2**20:
            raise UsageError(f"hidden_size {self.hidden_size} is outside 1..2**20")
        if not 1 <= self.window <= 2**16:
            raise UsageError(f"window {self.window} is outside 1..2**16 steps")

    def costs(self, tokens: np.ndarray[Any, Any], squares: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The cost of rows, int64, from their tokens and the sums of the squared lengths of their documents."""
        return 12 * self.hidden_size * tokens.astype(np.int64) + squares


def arrange(costs: np.ndarray[Any, Any], world_size: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Deals the rows of a window to steps and ranks.

    Args:
        costs: of each row, shape ``(steps * world_size,)``.
        world_size: the number of ranks.
        rng: shuffles the ranks, and then the steps.

    Returns:
        For each step and rank the index of its row, shape ``(steps, world_size)``, int64; every row is there once.
    """
    steps = np.argsort(-costs, kind="stable").reshape(-1, world_size)
    ranks = rng.permutation(world_size)
    work = np.zeros(world_size, costs.dtype)
    for step in range(len(steps)):
        least_first = ranks[np.argsort(work[ranks], kind="stable")]
        dealt = np.empty(world_size, np.int64)
        dealt[least_first] = steps[step]
        work += costs[dealt]
        steps[step] = dealt
    return steps[rng.permutation(len(steps))]


def imbalance(costs: np.ndarray[Any, Any]) -> float:
    """How many times longer steps take than if their work were spread evenly: the costs of the slowest ranks by means.

    Args:
        costs: of the row of each rank, shape ``(steps, world_size)``: of rows, or of sums of those between which ranks
            do not wait for each other.

    Returns:
        1 if all ranks are always equal (or there are no steps); ``1 - 1 / imbalance`` of the time is spent waiting.
    """
    total = float(costs.mean(axis=1).sum()) if costs.size else 0.0
    return float(costs.max(axis=1).sum()) / total if total else 1.0
