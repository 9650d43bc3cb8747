"""Reading JSON lines into texts on one core, against a loop of json.loads, orjson and datasets; nothing is tokenized.

python benchmarks/reading.py [--megabytes N]
"""

import json
import random
import tempfile
import time
from pathlib import Path

import orjson
import pyarrow as pa
from report import arguments, best_seconds, missing, publish

from tersely.corpus import find_sources


def mine(path):
    return sum(len(batch.texts) for source in find_sources([path])[0] for batch in source.batches())


def loop(loads):
    """What a script does: no places, no reasons, ended by the first bad line."""

    def read(path):
        with path.open("rb") as file:
            return sum(len([loads(line)["text"]]) for line in file)

    return read


def with_datasets(path):
    from datasets import load_dataset

    rows = load_dataset("json", data_files=str(path), split="train", streaming=True)
    return sum(len(batch["text"]) for batch in rows.iter(batch_size=1000))


PEERS = {"json": loop(json.loads), "orjson": loop(orjson.loads), "datasets (streaming)": with_datasets}


def write(path, text, length, size):
    """Documents of ``length`` characters from anywhere in ``text``."""
    lots = random.Random(0)
    with path.open("w") as file:
        while file.tell() < size:
            start = lots.randrange(len(text) - length)
            file.write(json.dumps({"id": start, "text": text[start : start + length]}) + "\n")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--megabytes", type=int, default=40)
    chosen = parser.parse_args()
    corpus = chosen.data / "prose/peps.jsonl.zst"
    if not corpus.exists():
        missing(f"a corpus at {corpus}")
    records = pa.input_stream(str(corpus)).read().splitlines()
    text = " ".join(orjson.loads(record)["text"] for record in records)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for length in (100, 1000, 10_000):
            path = Path(temporary) / f"{length}.jsonl"
            write(path, text, length, chosen.megabytes * 1_000_000)
            megabytes = path.stat().st_size / 1e6
            seconds, documents = best_seconds(lambda path=path: mine(path), 3, time.process_time)
            row = {"characters": length, "documents": documents, "tersely MB/s": megabytes / seconds}
            for name, peer in PEERS.items():
                theirs, count = best_seconds(lambda path=path, peer=peer: peer(path), 3, time.process_time)
                assert count == documents
                row[f"times {name}"] = theirs / seconds
            rows.append(row)
    publish("reading", rows, "process time of one core; tersely also gives lines, bytes and reasons")


if __name__ == "__main__":
    main()
