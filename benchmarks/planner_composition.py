"""How many documents does a bin hold? best-fit against mix, and a shuffled corpus packed first-fit as the measure.

python benchmarks/planner_composition.py
"""

import numpy as np
from planner_speed import lengths_of
from report import arguments, best_seconds, publish

from tersely.pack import plan
from tersely.pack.inorder import _first_fit


def rows(documents):
    rng = np.random.default_rng(1)
    for capacity in (2048, 8192, 32_768):
        lengths = lengths_of(documents, capacity)
        shuffled, bins = _first_fit(lengths, rng.permutation(documents), capacity)
        yield row("shuffled first-fit", capacity, np.bincount(shuffled), int(bins), 0.0)
        for strategy in ("best-fit", "mix"):
            seconds, made = best_seconds(lambda a=lengths, c=capacity, s=strategy: plan(a, c, s), repeats=2)
            yield row(strategy, capacity, made.bins.lengths, len(made.bins), seconds)


def row(name, capacity, counts, bins, seconds):
    marks = np.percentile(counts, [5, 50, 95, 100]).astype(int).tolist()
    shares = dict(zip(("p5", "p50", "p95", "max"), marks, strict=True))
    return {"strategy": name, "capacity": capacity, "bins": bins} | shares | {"seconds": seconds}


if __name__ == "__main__":
    arguments(__doc__).parse_args()
    publish("planner_composition", list(rows(200_000)), "200,000 lognormal documents; documents in a bin")
