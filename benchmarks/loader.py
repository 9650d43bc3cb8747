"""How fast do packed rows come out of PackedDataset, and batches out of PackedCollator? One process, one thread.

python benchmarks/loader.py
"""

import tempfile
import time
from pathlib import Path

from report import arguments, publish

from tersely.corpus import SampleSource, prepare
from tersely.pack import PackedCollator, PackedDataset


def main():
    arguments(__doc__).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        prepare([SampleSource()], Path(temporary) / "out")
        for strategy in ("best-fit", "mix"):
            for capacity in (2048, 8192):
                started = time.perf_counter()
                dataset = PackedDataset(Path(temporary) / "out", capacity=capacity, strategy=strategy)
                next(iter(dataset))
                opened = time.perf_counter() - started
                started = time.perf_counter()
                tokens = sum(len(row["input_ids"]) for row in dataset)
                read = time.perf_counter() - started
                collate = PackedCollator()
                started = time.perf_counter()
                for row in dataset:
                    collate([row])
                collated = time.perf_counter() - started
                rows.append(
                    {
                        "strategy": strategy,
                        "capacity": capacity,
                        "rows": len(dataset),
                        "first row s": opened,
                        "million tokens/s": tokens / read / 1e6,
                        "with collator": tokens / collated / 1e6,
                    }
                )
    publish("loader", rows, "the built-in corpus, bytes")


if __name__ == "__main__":
    main()
