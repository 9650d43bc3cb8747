"""How many of the published one-dimensional bin-packing instances does each strategy solve to the proven optimum?

python benchmarks/bin_packing_instances.py
"""

import tarfile

import numpy as np
import pyarrow as pa
from report import arguments, missing, publish

from tersely.pack import plan

STRATEGIES = ("best-fit", "first-fit", "mix")


def instances(archive):
    """Set, capacity, item sizes and the proven optimum (or None) of each instance."""
    optima = {}
    for line in (archive.parent / "optima.tsv").read_text().splitlines()[1:]:
        name, group, _, _, lower, upper, known, *_ = line.split("\t")
        optima[name] = (group, int(lower) if known == "1" else None, int(upper))
    stream = pa.CompressedInputStream(pa.OSFile(str(archive)), "zstd")
    with tarfile.open(fileobj=stream, mode="r|") as members:
        for member in members:
            if member.isfile():
                numbers = [int(word) for word in members.extractfile(member).read().split()]
                found = next(value for name, value in optima.items() if member.name.endswith(name))
                yield found[0], numbers[1], np.array(numbers[2 : 2 + numbers[0]]), found[1]


def main(data):
    archive = data / "fixtures/bpp/instances.tar.zst"
    if not archive.exists():
        missing(f"the bin-packing instances at {archive}")
    groups = {}
    for group, capacity, sizes, optimum in instances(archive):
        row = groups.setdefault(
            group, {"set": group, "instances": 0, "optimum proven": 0} | dict.fromkeys(STRATEGIES, 0)
        )
        row["instances"] += 1
        row["optimum proven"] += optimum is not None
        bins = {strategy: len(plan(sizes, capacity, strategy).bins) for strategy in STRATEGIES}
        if bins["best-fit"] > bins["first-fit"]:
            raise SystemExit(f"best-fit needs {bins} on an instance of {group}")
        for strategy in STRATEGIES:
            row[strategy] += bins[strategy] == optimum
    total = {"set": "all"} | {key: sum(row[key] for row in groups.values()) for key in list(row)[1:]}
    publish("bin_packing_instances", [*groups.values(), total], "instances solved to the proven optimum")


if __name__ == "__main__":
    main(arguments(__doc__).parse_args().data)
