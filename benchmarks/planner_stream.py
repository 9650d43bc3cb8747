"""What does StreamPlanner lose against planning the whole corpus at once?

python benchmarks/planner_stream.py
"""

import time

import numpy as np
from planner_speed import lengths_of
from report import arguments, publish

from tersely.pack import StreamPlanner, plan


def rows(documents):
    for kind in ("lognormal", "uniform"):
        for capacity in (2048, 8192, 32_768):
            uniform = np.random.default_rng(0).integers(1, capacity + 1, documents)
            lengths = lengths_of(documents, capacity) if kind == "lognormal" else uniform
            planner = StreamPlanner(capacity)
            started = time.perf_counter()
            planner.add(lengths)
            planner.flush()
            seconds = time.perf_counter() - started
            whole = plan(lengths, capacity).efficiency
            yield {
                "lengths": kind,
                "capacity": capacity,
                "whole %": 100 * whole,
                "stream %": 100 * planner.efficiency,
                "lost %": 100 * (whole - planner.efficiency),
                "million documents/s": documents / seconds / 1e6,
            }


if __name__ == "__main__":
    arguments(__doc__).parse_args()
    publish("planner_stream", list(rows(200_000)), "200,000 documents, the default window of 8192 pieces")
