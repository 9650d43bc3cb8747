"""What do words cost that are pooled from their bytes, where a model could have looked them up?

python benchmarks/word_pooling.py --prepare    where the shared corpora are: words into build/word_pooling.npz (< 2 MB)
python benchmarks/word_pooling.py [--compile] [--only NAME] [--dry]    on one GPU

Pool and a transformer of 12 layers, width 768 and 12 heads, against the same transformer behind ``nn.Embedding`` of 50,257
rows, at the same positions, one for each of 32,768 words; bf16, forward, and forward with backward to all parameters.
"gpt2" are words by that rule, "blanks" what stands between blanks, which in Thai, Chinese and Burmese are phrases; longer
ones than 32 bytes are cut. Medians of ``triton.testing.do_bench``, which flushes the L2 cache; eager, with ``--compile`` also
under ``torch.compile``, and each replayed from a CUDA graph; "ratio" is of the best of each side. ``--dry`` runs all of it
once, small, on the CPU, on random words.
"""

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from report import arguments, captured, missing, publish
from torch import nn

from tersely.embeddings import WordPool
from tersely.kernels import Boundaries
from tersely.layers import Stack

LANGUAGES = {"English": "eng", "Thai": "tha", "Chinese": "zho-CN", "Burmese": "mya"}
WORDS, LONGEST, VOCABULARY = 32768, 32, 50257


def prepare(data, path):
    """Writes bytes, lengths of words, and words of documents, of each language under each rule."""
    import json

    import pyarrow

    from tersely.tokenize import segment_pieces
    from tersely.tokenize.words.pieces import cut_words

    with pyarrow.input_stream(str(data / "multilingual/ntrex.jsonl.zst"), compression="zstd") as file:
        rows = [json.loads(line) for line in file.read().splitlines()]
    arrays = {}
    for language, code in LANGUAGES.items():
        texts = [row["text"] for row in rows if row["lang"] == code]
        words = segment_pieces(texts, "gpt2", max_word_bytes=LONGEST).words
        rules = {"gpt2": (words.values.values, words.values.offsets, words.offsets)}
        documents = words.values.offsets[words.offsets]
        starts = np.union1d(np.flatnonzero(np.isin(words.values.values, (10, 32))), documents)
        starts, _ = cut_words(words.values.values, documents, starts, LONGEST)
        rules["blanks"] = (words.values.values, starts, np.searchsorted(starts, documents))
        for rule, (values, cu_words, cu_documents) in rules.items():
            some = min(WORDS, len(cu_words) - 1)
            arrays[f"{language} {rule} bytes"] = values[: cu_words[some]]
            arrays[f"{language} {rule} words"] = np.diff(cu_words[: some + 1]).astype(np.uint8)
            cu_documents = np.unique(np.minimum(cu_documents, some))
            arrays[f"{language} {rule} documents"] = np.diff(cu_documents).astype(np.uint32)
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size:,} bytes")


def layouts(path):
    """Bytes, and boundaries of words and documents, repeated until there are enough words."""
    with np.load(path) as stored:
        for name in sorted({name.rsplit(" ", 1)[0] for name in stored}):
            ids, words, documents = (stored[f"{name} {part}"] for part in ("bytes", "words", "documents"))
            times = -(-WORDS // len(words))
            words = np.tile(words.astype(np.int64), times)[:WORDS]
            ends = np.minimum(np.cumsum(np.tile(documents.astype(np.int64), times)), WORDS)
            yield name, np.tile(ids, times)[: words.sum()], words, np.diff(np.unique(ends), prepend=0)


def random_layouts():
    rng = np.random.default_rng(0)
    words = rng.integers(1, 9, 60)
    yield "random", rng.integers(0, 256, words.sum(), dtype=np.uint8), words, np.array([20, 30, 10])


class Fed(nn.Module):
    """A transformer, and what feeds it."""

    def __init__(self, feed, stack):
        super().__init__()
        self.feed, self.stack = feed, stack

    def forward(self, bounds, places, *inputs):
        """Who sees whom, places, and what the feed takes."""
        x = self.feed(*inputs)
        return self.stack(x.flatten(0, 1) if x.dim() == 3 else x, bounds, places)


def measure(name, ids, words, documents, options):
    """Rows of the table: each kind of pool against the embedding."""
    device, dtype = ("cpu", torch.float32) if options.dry else ("cuda", torch.bfloat16)
    width, layers, heads = (32, 2, 2) if options.dry else (768, 12, 12)
    torch.manual_seed(0)
    cu_words, cu_documents = (
        nn.functional.pad(torch.from_numpy(np.cumsum(lengths)), (1, 0)).to(device, torch.int32)
        for lengths in (words, documents)
    )
    count = len(words)
    places = torch.from_numpy(np.concatenate([np.arange(length) for length in documents])).to(device)
    bounds = Boundaries.from_cu_seqlens(cu_documents, count, causal=True)
    stack = Stack(width, layers, heads)
    numbers = torch.randint(0, VOCABULARY, (count,), device=device)
    plain = timed(
        Fed(nn.Embedding(VOCABULARY, width), stack).to(device, dtype), options, bounds, places, numbers
    )
    ids = torch.from_numpy(ids).to(device).long()
    for kind in ("query", "prefix"):
        model = Fed(WordPool(width, 1, kind, places=LONGEST), stack).to(device, dtype)
        pooled = timed(model, options, bounds, places, ids, cu_words)
        row = {"words": name, "kind": kind, "bytes a word": float(words.mean())}
        for way in ("forward", "both ways"):
            best = (min(time for time in times[way].values() if time) for times in (pooled, plain))
            row |= {f"{way} ratio": next(best) / next(best)}
        row |= {f"pool {way}, {mode} ms": time for way in pooled for mode, time in pooled[way].items()}
        row |= {f"plain {way}, {mode} ms": time for way in plain for mode, time in plain[way].items()}
        print(row, flush=True)
        yield row


def timed(model, options, *inputs):
    """Milliseconds of each way and mode to run a model."""
    times = {"forward": {}, "both ways": {}}
    for mode in ("eager", "compiled") if options.compile else ("eager",):
        torch._dynamo.reset()
        run = torch.compile(model) if mode == "compiled" else model
        for way, function in (("forward", forward), ("both ways", both_ways)):
            call = partial(function, run, list(model.parameters()), *inputs)
            times[way][mode] = attempted(call, options.dry)
            if not options.dry:
                times[way][f"{mode}, captured"] = attempted(call, options.dry, captured)
    return times


@torch.no_grad()
def forward(run, _, *inputs):
    return run(*inputs)


def both_ways(run, parameters, *inputs):
    out = run(*inputs)
    return torch.autograd.grad(out, parameters, torch.ones_like(out))


def attempted(call, dry, prepared=None):
    """Milliseconds of a call, None if it cannot be run so."""
    try:
        return milliseconds(prepared(call) if prepared else call, dry)
    except RuntimeError as error:
        print(f"a call failed: {error}")
        return None


def milliseconds(call, dry):
    if dry:
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e3
    from triton.testing import do_bench

    return do_bench(call, warmup=10, rep=60, return_mode="median")


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--words", type=Path, default=Path("build/word_pooling.npz"))
    parser.add_argument("--prepare", action="store_true", help="make the file of words, and no more")
    parser.add_argument("--compile", action="store_true", help="under torch.compile too, which takes minutes")
    parser.add_argument("--only", default="", help="words whose name has this in it, such as 'Thai blanks'")
    parser.add_argument("--dry", action="store_true", help="small, on the CPU, and publish nothing")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.data, options.words)
        return
    if not options.dry and not options.words.exists():
        missing(f"{options.words}: run it with --prepare where the shared corpora are")
    found = random_layouts() if options.dry else layouts(options.words)
    rows = [row for layout in found if options.only in layout[0] for row in measure(*layout, options)]
    if not options.dry:
        publish("word_pooling", rows)


if __name__ == "__main__":
    main()
