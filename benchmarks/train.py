"""Training a byte-level BPE: time and peak memory against `tokenizers` as the corpus grows; what superwords save.

python benchmarks/train.py [--megabytes N] [--growth N]

The corpus is made of shared text. Each copy has one word in twenty changed for two halves of others, so that the
number of different words grows with it, as that of real text does. Each training runs in a process of its own.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import arguments, missing, publish

VOCABULARY = 16_000
MEMORY = 64 << 20
PROSE = ("peps", "wikipedia_en", "state_union", "repo_docs")


def texts_of(file):
    from tersely.corpus import find_sources

    return [text for batch in find_sources([file])[0][0].batches() for text in batch.texts]


def write_corpus(path, texts, megabytes):
    """Documents up to so many megabytes."""
    chance, written = random.Random(0), 0
    words = [word for text in texts for word in text.split(" ") if word]
    with path.open("w") as out:
        while written < megabytes * 1e6:
            for text in texts:
                parts = text.split(" ")
                for place in range(chance.randrange(20), len(parts), 20):
                    left, right = chance.choice(words), chance.choice(words)
                    parts[place] = left[: len(left) // 2 + 1] + right[len(right) // 2 :]
                changed = " ".join(parts)
                out.write(json.dumps({"text": changed}) + "\n")
                written += len(changed.encode())
                if written >= megabytes * 1e6:
                    break
    return written


def mine(corpus, out):
    from tersely.corpus import Settings, find_sources, train

    started = time.perf_counter()
    settings = Settings(kind="bpe", vocab_size=VOCABULARY, memory=MEMORY)
    report = train(find_sources([corpus])[0], out, settings)
    return time.perf_counter() - started, report.unique_words, report.dropped_share


def theirs(corpus, out):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def texts():
        with open(corpus) as lines:
            for line in lines:
                yield json.loads(line)["text"]

    started = time.perf_counter()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.save(str(out))
    return time.perf_counter() - started, 0, 0.0


def alone(which, corpus, out):
    """Runs `mine` or `theirs` in a process of its own: seconds, different words, share dropped, peak bytes."""
    command = [sys.executable, __file__, "--alone", which, str(corpus), str(out)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak():
    """The most memory this process had, in bytes; getrusage would also know that of the parent."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10


def same_merges(one, other):
    models = [json.loads(path.read_text())["model"] for path in (one, other)]
    return models[0]["merges"] == models[1]["merges"]


def growth(folder, texts, sizes):
    rows = []
    for megabytes in sizes:
        corpus = folder / f"{megabytes}.jsonl"
        size = write_corpus(corpus, texts, megabytes) / 1e6
        files = [folder / f"{which}-{megabytes}.json" for which in ("mine", "theirs")]
        (seconds, unique, dropped, peak), (peer, _, _, peer_peak) = (
            alone(which, corpus, file) for which, file in zip(("mine", "theirs"), files, strict=True)
        )
        rows.append(
            {
                "megabytes": size,
                "different words": unique,
                "tersely MB/s": size / seconds,
                "tokenizers MB/s": size / peer,
                "ratio": peer / seconds,
                "tersely peak MB": peak / 1e6,
                "tokenizers peak MB": peer_peak / 1e6,
                "words dropped": dropped,
                "same merges": same_merges(*files),
            }
        )
    return rows


def superwords(name, texts, folder):
    """Bytes per token on the tenth of the documents that was not trained on."""
    from tersely import load_tokenizer
    from tersely.corpus import Settings, find_sources, train

    held_out = texts[::10]
    corpus = folder / "train.jsonl"
    kept = [text for place, text in enumerate(texts) if place % 10]
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in kept))
    size = sum(len(text.encode()) for text in held_out)
    for vocab_size in (8_000, 16_000, 32_000):
        row = {"corpus": name, "vocabulary": vocab_size}
        for kind in (False, True):
            out = folder / f"{name}-{vocab_size}-{kind}.json"
            train(
                find_sources([corpus])[0], out, Settings(kind="bpe", vocab_size=vocab_size, superwords=kind)
            )
            row["superwords" if kind else "plain"] = size / len(load_tokenizer(out).encode(held_out).values)
        yield row | {"ratio": row["superwords"] / row["plain"]}


def main():
    parser = arguments(__doc__)
    parser.add_argument("--megabytes", type=int, default=20, help="the smallest corpus")
    parser.add_argument("--growth", type=int, default=10, help="how many times larger the largest is")
    parser.add_argument("--alone", nargs=3, help="for the processes that this script starts")
    chosen = parser.parse_args()
    if chosen.alone:
        which, corpus, out = chosen.alone
        result = (mine if which == "mine" else theirs)(corpus, Path(out))
        print(json.dumps([*result, peak()]))
        return
    if not (chosen.data / "prose").is_dir():
        missing(f"the shared corpora at {chosen.data}")
    texts = {
        "prose": [text for name in PROSE for text in texts_of(chosen.data / f"prose/{name}.jsonl.zst")],
        "code": texts_of(chosen.data / "code/files.jsonl.zst"),
        "multilingual": texts_of(chosen.data / "multilingual/ntrex.jsonl.zst"),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mine(chosen.data / "prose/repo_docs.jsonl.zst", folder / "warm.json")
        rows = growth(folder, texts["prose"], (chosen.megabytes, chosen.megabytes * chosen.growth))
        publish("train", rows, f"{VOCABULARY} ids, tersely with memory={MEMORY >> 20} MiB")
        rows = [row for name, each in texts.items() for row in superwords(name, each, folder)]
        publish("train_superwords", rows, "bytes per token on held-out documents, superword_share 0.2")


if __name__ == "__main__":
    main()
