"""k-mer tokenizer against the usual split into a Python dictionary of k-mers, and against numpy's copy. One thread.

python benchmarks/kmer.py
"""

import itertools

import numpy as np
from report import arguments, best_seconds, publish

from tersely.corpus import find_sources
from tersely.tokenize import KmerTokenizer

K = 6
BASES = 32_000_000


def random_dna():
    letters = np.frombuffer(b"ACGT", np.uint8)
    return letters[np.random.default_rng(0).integers(0, 4, BASES)].tobytes()


def soft_masked(text):
    """Every other stretch of about 300 letters in lower case, as repeats of a genome are."""
    marks = np.cumsum(np.random.default_rng(1).geometric(1 / 300, BASES // 250))
    lower = np.searchsorted(marks, np.arange(len(text)), side="right") % 2 == 1
    return (np.frombuffer(text, np.uint8) | (lower * np.uint8(32))).tobytes()


def corpora(data):
    """Named lists of documents."""
    text = random_dna()
    yield "random, 1 document", [text]
    yield "random, 1 kB documents", [text[i : i + 1000] for i in range(0, len(text), 1000)]
    yield "soft-masked", [soft_masked(text)]
    yield "only N", [b"N" * BASES]
    if (data / "dna").is_dir():
        batches = [batch for source in find_sources([data / "dna"])[0] for batch in source.batches()]
        yield "fly and worm", [text.encode() for batch in batches for text in batch.texts] * 12


def split(vocabulary, text):
    """What tokenizers of transformers do for k-mers: a slice and a look-up for each."""
    return [vocabulary.get(text[i : i + K], 0) for i in range(0, len(text), K)]


def rows(data):
    vocabulary = {"".join(kmer): 259 + i for i, kmer in enumerate(itertools.product("ACGT", repeat=K))}
    tok, other = KmerTokenizer(K), KmerTokenizer(K, reverse_complement=True)
    for name, texts in corpora(data):
        megabytes = sum(map(len, texts)) / 1e6
        few = texts[0][: 600_000 // K * K].decode()
        strings = [text.decode() for text in texts]
        flat = np.frombuffer(b"".join(texts), np.uint8)
        ids = tok.encode(texts)
        assert tok.decode(ids) == texts
        if name == "random, 1 document":
            assert tok.encode([few]).to_list() == [split(vocabulary, few)]
        speeds = {
            "Python split": len(few) / 1e6 / best_seconds(lambda f=few: split(vocabulary, f), 2)[0],
            "encode(bytes)": megabytes / best_seconds(lambda t=texts: tok.encode(t))[0],
            "encode(str)": megabytes / best_seconds(lambda s=strings: tok.encode(s))[0],
            "other strand": megabytes / best_seconds(lambda t=texts: other.encode(t))[0],
            "decode": megabytes / best_seconds(lambda i=ids: tok.decode(i))[0],
            "numpy copy": megabytes / best_seconds(lambda f=flat: f.copy())[0],
        }
        ratios = {
            "encode / Python": speeds["encode(bytes)"] / speeds["Python split"],
            "encode / copy": speeds["encode(bytes)"] / speeds["numpy copy"],
        }
        yield {"text": name, "letters per id": megabytes * 1e6 / len(ids.values)} | speeds | ratios


if __name__ == "__main__":
    publish("kmer", list(rows(arguments(__doc__).parse_args().data)), "MB/s of letters, without special ids")
