"""The models that a code can be built by, against each other: bits a byte, bytes per token on held-out text, cost of the build.

python benchmarks/equal_info_models.py
python benchmarks/equal_info_models.py --neural FILE.npz    the neural model, on a GPU; FILE as learnability.py prepares it

The text and the split of ``equal_info.py``, every fifth document held out; 16 bits, 16 MB of training text, one thread, processor
time. Compiled before the clock runs.
"""

import random
import tempfile
import time
from pathlib import Path

from equal_info import BITS, BUILD_BYTES, corpus, split
from report import arguments, publish

PLACES = 100_000  # of the held-out text, where bits a byte are measured


def sampled(texts, size):
    """Documents in a random order, until they have ``size`` bytes."""
    texts = random.Random(0).sample(texts, len(texts))
    found, total = [], 0
    for text in texts:
        if total >= size:
            break
        found.append(text)
        total += len(text)
    return found


def bits_a_byte(model, test):
    """By a model that sees as much as it can."""
    import numpy as np

    from tersely.compress.equal_info.contexts import contexts_before
    from tersely.tokenize.batch import one_buffer

    documents = one_buffer(test)
    places = np.random.default_rng(0).integers(0, len(documents.values), PLACES)
    contexts = contexts_before(documents.values, documents.offsets, model.context)[places]
    shares = np.diff(model.cdf(contexts))[np.arange(PLACES), documents.values[places]]
    return float(-np.log2(shares / 65536).mean())


def stored_texts(file):
    """The training and test documents that a file of learnability.py holds as ids of bytes, 256 after each."""
    import numpy as np

    with np.load(file) as stored:
        for part in ("train", "test"):
            ids = stored[f"bytes/{part}"]
            yield [
                row[row < 256].astype(np.uint8).tobytes()
                for row in np.split(ids, np.flatnonzero(ids == 256)[:-1])
            ]


def rows(train, test, kinds):
    from tersely.compress import EqualInfoTokenizer

    train, size = sampled(train, BUILD_BYTES), sum(map(len, test))
    for kind, short in kinds.items():
        warm = kind.train(train[:20], **short)
        EqualInfoTokenizer.train(train[:20], bits=9, carry=1, model=warm, threads=1)
        started = time.process_time()
        model = kind.train(train)
        learning = time.process_time() - started
        with tempfile.NamedTemporaryFile() as file:
            model.save(file.name)
            stored = Path(file.name).stat().st_size / 1e6
        bits = bits_a_byte(model, test)
        for carry in (0, 1, 2):
            started = time.process_time()
            tok = EqualInfoTokenizer.train(train, bits=BITS, carry=carry, model=model, threads=1)
            building = time.process_time() - started
            ids = tok.encode(test)
            assert tok.decode(ids) == test
            yield {
                "model": kind.__name__,
                "carry": carry,
                "bytes per token": size / len(ids.values),
                "bits a byte": bits,
                "learn s": learning,
                "build s": building,
                "model MB": stored,
            }


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--neural", type=Path)
    given = parser.parse_args()
    from tersely.compress.equal_info.models import MixingModel, NgramModel
    from tersely.compress.equal_info.models.neural import NeuralModel

    if given.neural:
        found = list(rows(*stored_texts(given.neural), {NgramModel: {}, NeuralModel: {"steps": 1}}))
    else:
        found = list(rows(*split(corpus(given.data), "documents"), {NgramModel: {}, MixingModel: {}}))
    for one in found:
        other = next(row for row in found if row["carry"] == one["carry"])
        one["over ngram"] = one["bytes per token"] / other["bytes per token"] - 1
    publish(
        "equal_info_neural" if given.neural else "equal_info_models",
        found,
        f"{BUILD_BYTES:,} bytes of training, {PLACES:,} places for bits a byte",
    )
