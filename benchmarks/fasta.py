"""Reading FASTA, against reading it line by line in Python. One thread.

python benchmarks/fasta.py
"""

import tempfile
from pathlib import Path

import numpy as np
from report import arguments, best_seconds, publish

from tersely.corpus import find_sources

BASES = 120_000_000


def records(length):
    """FASTA of random sequences of ``length`` letters, in lines of 60."""
    letters = np.frombuffer(b"ACGT", np.uint8)
    lines = letters[np.random.default_rng(0).integers(0, 4, (BASES // 60, 60))]
    body = np.concatenate([lines, np.full((len(lines), 1), 10, np.uint8)], axis=1).reshape(-1)
    step = length // 60 * 61
    for number, start in enumerate(range(0, len(body) - step + 1, step)):
        yield b">record%d of a benchmark\n" % number + body[start : start + step].tobytes()


def ours(path):
    return [text for source in find_sources([path])[0] for b in source.batches() for text in b.texts]


def line_by_line(path):
    found = []
    with path.open() as file:
        for line in file:
            if line.startswith(">"):
                found.append([])
            else:
                found[-1].append(line.rstrip())
    return ["".join(lines) for lines in found]


def rows():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seq.fa"
        for length in (BASES, 60_000, 420):
            path.write_bytes(b"".join(records(length)))
            megabytes = path.stat().st_size / 1e6
            mine, texts = best_seconds(lambda: ours(path), 3)
            theirs, expected = best_seconds(lambda: line_by_line(path), 1)
            assert texts == expected
            speeds = {"MB/s": megabytes / mine, "line by line MB/s": megabytes / theirs}
            yield {"letters in a record": length} | speeds | {"ratio": theirs / mine}


if __name__ == "__main__":
    arguments(__doc__).parse_args()
    publish("fasta", list(rows()), "uncompressed files, in the page cache")
