"""How fast is best-fit, and does it need as many bins as the plain algorithm? One thread.

Documents have lognormal lengths, median 400 tokens, sigma 1.2, clipped to the capacity (so that splitting is not part
of the figure; --unclipped leaves them). Timed is `plan(lengths, capacity)` with its lists of document ids. Compared are
the bins of an independent best-fit decreasing, one document at a time, and TRL's `pack_dataset`, which packs in windows
and also moves the tokens; so for it `plan` plus `gather` is the fair line.

    python benchmarks/planner_speed.py [--trl]
"""

import numba
import numpy as np
from report import arguments, best_seconds, missing, publish

from tersely import Ragged
from tersely.pack import plan


def lengths_of(documents, capacity, clipped=True):
    raw = np.exp(np.random.default_rng(0).normal(np.log(400), 1.2, documents))
    return np.clip(raw, 1, capacity if clipped else None).astype(np.int32)


@numba.njit(cache=True)
def plain_bins(ordered, capacity):
    """Bins of best-fit decreasing, one document at a time; spaces are counted, and searched one by one."""
    spaces = np.zeros(capacity + 1, np.int64)
    bins = 0
    for length in ordered:
        space = length
        while space <= capacity and spaces[space] == 0:
            space += 1
        if space > capacity:
            bins += 1
            space = capacity
        else:
            spaces[space] -= 1
        spaces[space - length] += 1
    return bins


def planner_rows(clipped):
    for documents in (1_000_000, 10_000_000):
        for capacity in (2048, 8192, 32_768):
            lengths = lengths_of(documents, capacity, clipped)
            seconds, made = best_seconds(lambda lengths=lengths, capacity=capacity: plan(lengths, capacity))
            pieces = made.seq_lengths.values
            plain = plain_bins(np.sort(pieces)[::-1], capacity)
            yield {
                "documents": documents,
                "capacity": capacity,
                "seconds": seconds,
                "million documents/s": documents / seconds / 1e6,
                "bins": len(made.bins),
                "bins, plain": int(plain),
                "efficiency %": 100 * made.efficiency,
            }


def trl_rows():
    try:
        from datasets import Dataset, disable_progress_bars
        from trl.data_utils import pack_dataset
    except ImportError:
        missing("trl and datasets")
    disable_progress_bars()
    for capacity in (2048, 8192, 32_768):
        lengths = lengths_of(50_000, capacity)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        ids = Ragged(np.zeros(offsets[-1], np.int32), offsets)
        mine, made = best_seconds(
            lambda ids=ids, c=capacity: (p := plan(ids.lengths, c), p.gather(ids)), repeats=3
        )
        dataset = Dataset.from_dict({"input_ids": ids.to_arrow(large=False)})
        for window in (1000, len(lengths)):
            options = {"batch_size": window, "load_from_cache_file": False, "keep_in_memory": True}
            seconds, packed = best_seconds(
                lambda d=dataset, c=capacity, o=options: pack_dataset(d, c, "bfd", map_kwargs=o), repeats=1
            )
            yield {
                "capacity": capacity,
                "window of TRL": window,
                "TRL s": seconds,
                "plan + gather s": mine,
                "ratio": seconds / mine,
                "TRL efficiency %": 100 * int(offsets[-1]) / (len(packed) * capacity),
                "efficiency %": 100 * made[0].efficiency,
            }


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--trl", action="store_true", help="measure TRL's packer instead")
    parser.add_argument("--unclipped", action="store_true", help="leave lengths above the capacity")
    chosen = parser.parse_args()
    if chosen.trl:
        publish("planner_trl", list(trl_rows()), "50,000 documents, tokens moved by both, one int32 column")
    else:
        name = "planner_speed_unclipped" if chosen.unclipped else "planner_speed"
        publish(name, list(planner_rows(not chosen.unclipped)), "one thread, compiled before")
