"""How long do ranks wait for each other, with and without balanced steps?

python benchmarks/balance.py

Documents: lognormal lengths (median 400, sigma 1.2) or uniform ones, 200,000 of them, in rows of ``capacity`` tokens. The
cost of a row is that of ``Balance()``: a hidden size of 2048, attention within documents. "idle" is the share of the time
of all ranks that is spent waiting for the slowest one, if all wait after each row, and if they wait once for 16 rows.
"sorted" are rows sorted by cost over the whole epoch, which is the least that can be had and makes a curriculum.
"""

import time

import numpy as np
from report import arguments, publish

from tersely.pack import Balance, imbalance, plan
from tersely.pack.balance import arrange

DOCUMENTS = 200_000
ACCUMULATED = 16


def main():
    arguments(__doc__).parse_args()
    rows = []
    for kind, strategy in (("lognormal", "best-fit"), ("lognormal", "mix"), ("uniform", "best-fit")):
        for capacity in (8192, 32768):
            costs = costs_of(kind, strategy, capacity)
            for ranks in (8, 64):
                rows.append(
                    {"lengths": kind, "strategy": strategy, "capacity": capacity, "ranks": ranks}
                    | measured(costs, ranks)
                )
    publish("balance", rows, "idle: percent of the time of all ranks; sums: if they wait once for 16 rows")


def costs_of(kind, strategy, capacity):
    rng = np.random.default_rng(0)
    lengths = (
        rng.lognormal(np.log(400), 1.2, DOCUMENTS)
        if kind == "lognormal"
        else rng.uniform(1, capacity, DOCUMENTS)
    )
    pieces = plan(np.clip(lengths.astype(np.int64), 1, capacity), capacity, strategy).seq_lengths
    sums = [
        np.add.reduceat(values, pieces.offsets[:-1])
        for values in (pieces.values.astype(np.int64), pieces.values.astype(np.int64) ** 2)
    ]
    return Balance().costs(*sums)


def measured(costs, ranks):
    rng = np.random.default_rng(1)
    costs = rng.permutation(costs)[: len(costs) // (ranks * ACCUMULATED) * ranks * ACCUMULATED]
    found = {"steps": len(costs) // ranks, "idle": idle(costs.reshape(-1, ranks))}
    found["idle, sums"] = idle(sums(costs.reshape(-1, ranks)))
    for window in (4, 16, 64):
        started = time.perf_counter()
        size = window * ranks
        steps = np.concatenate(
            [
                costs[at : at + size][arrange(costs[at : at + size], ranks, rng)]
                for at in range(0, len(costs), size)
            ]
        )
        seconds = time.perf_counter() - started
        found[f"idle, window {window}"] = idle(steps)
        if window == ACCUMULATED:
            found["idle, sums, window 16"] = idle(sums(steps))
            found["us a row"] = seconds / len(costs) * 1e6
    found["idle, sorted"] = idle(np.sort(costs).reshape(-1, ranks))
    return found


def sums(steps):
    return steps.reshape(-1, ACCUMULATED, steps.shape[1]).sum(axis=1)


def idle(steps):
    return 100 * (1 - 1 / imbalance(steps))


if __name__ == "__main__":
    main()
