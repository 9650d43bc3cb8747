"""Packs documents that never end: a bounded buffer of tokens, rows as they become ready, and a state to resume from.

Run it: python examples/pack_a_stream.py
"""

import json
from collections.abc import Iterator

import numpy as np

from tersely import load_tokenizer
from tersely.corpus import SampleSource
from tersely.pack import StreamPlanner


def packed_rows(planner: StreamPlanner, texts: Iterator[list[str]]) -> Iterator[np.ndarray]:
    """Rows of tokens from batches of texts; only documents that still wait are kept in memory."""
    tok = load_tokenizer("bytes")
    tokens: dict[int, np.ndarray] = {}
    number = 0
    for batch in texts:
        ids = tok.encode(batch, eos=True)
        for row in ids:
            tokens[number] = row
            number += 1
        ready = planner.add(ids.lengths)
        yield from (np.concatenate([tokens[d][start:stop] for d, start, stop in pieces]) for pieces in ready)
        waiting = planner.waiting()
        tokens = {document: row for document, row in tokens.items() if document in waiting}
    for pieces in planner.flush():
        yield np.concatenate([tokens[d][start:stop] for d, start, stop in pieces])


def main() -> None:
    planner = StreamPlanner(capacity=4096, window=2048)
    texts = (batch.texts for batch in SampleSource().batches())
    rows = sum(1 for _ in packed_rows(planner, texts))
    print(f"{rows} rows of 4096 tokens, {100 * planner.efficiency:.2f} % used")
    print(f"a saved state is {len(json.dumps(planner.state_dict()))} bytes")


if __name__ == "__main__":
    main()
