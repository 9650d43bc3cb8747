"""Equal-info codes against the paper's own and against BPE: bytes per token on held-out text, speed, cost of the build.

python benchmarks/equal_info.py [--held-out documents|files]

Prose and code of the shared corpora. ``documents`` holds out every fifth document, by a hash; ``files`` holds out whole
corpora that nothing like was trained on (Wikipedia, Markdown files). One thread; processor time for speeds.
"""

import json
import os
import subprocess
import time
import zlib

from report import arguments, best_seconds, missing, publish

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

BITS = 16
FILES = ["movie_reviews", "peps", "repo_docs", "state_union", "wikipedia_en", "wikitext2_valid"]
HELD_OUT = ["prose/repo_docs.jsonl.zst", "prose/wikipedia_en.jsonl.zst"]
BUILD_BYTES = 16_000_000


def corpus(data):
    """Documents by file."""
    names = [*(f"prose/{name}.jsonl.zst" for name in FILES), "code/files.jsonl.zst"]
    if not (data / names[0]).exists():
        missing(f"the shared corpora at {data}")
    found = {}
    for name in names:
        raw = subprocess.run(["zstd", "-dc", data / name], capture_output=True, check=True).stdout
        found[name] = [json.loads(line)["text"].encode() for line in raw.splitlines() if line]
    return found


def split(found, held_out):
    """Training and test documents."""
    if held_out == "files":
        train = [text for name, texts in found.items() if name not in HELD_OUT for text in texts]
        return train, [text for name in HELD_OUT for text in found[name]]
    every = [text for texts in found.values() for text in texts]
    return [t for t in every if zlib.crc32(t) % 5], [t for t in every if not zlib.crc32(t) % 5]


def bpe(train, words):
    """A byte-level BPE of as many ids; with the word split of GPT-2, or cut at line ends only."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    lines = pre_tokenizers.Split(Regex(r"\n"), "merged_with_previous")
    made.pre_tokenizer = level if words else pre_tokenizers.Sequence([lines, level])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1 << BITS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator((text.decode() for text in train), trainer)
    return made


def of_bpe(name, train, test, words):
    started = time.process_time()
    made = bpe(train, words)
    build = time.process_time() - started
    strings = [text.decode() for text in test]
    encoding, found = best_seconds(
        lambda: made.encode_batch_fast(strings, add_special_tokens=False), 3, time.process_time
    )
    ids = [one.ids for one in found]
    decoding, back = best_seconds(
        lambda: made.decode_batch(ids, skip_special_tokens=False), 3, time.process_time
    )
    assert back == strings
    return row(name, test, sum(map(len, ids)), build, None, encoding, decoding)


def of_paper(train, test, model):
    import numpy as np

    from tersely.compress.equal_info.code import delay, greedy

    started = time.process_time()
    made = greedy.greedy_code(model, BITS)
    build = time.process_time() - started
    shortest = delay.shortest_nodes(made)
    flat = [np.frombuffer(text, np.uint8) for text in test]
    nodes = [greedy.encode(made.firsts, made.labels, text)[0] for text in flat]
    wrong = sum(int((greedy.decode(made, made.codes[some]) != some).sum()) for some in nodes)
    total = sum(map(len, nodes))
    yield row("paper, greedy", test, total, build, None, None, None) | {"wrong windows": wrong / total}
    delayed = [delay.encode(made.firsts, made.labels, made.parents, shortest, text)[0] for text in flat]
    yield row("paper, Delay", test, sum(map(len, delayed)), build, None, None, None)


def of_code(train, test, model, carry):
    from tersely.compress import EqualInfoTokenizer

    started = time.process_time()
    tok = EqualInfoTokenizer.train(train, bits=BITS, carry=carry, model=model, threads=1)
    build = time.process_time() - started
    encoding, ids = best_seconds(lambda: tok.encode(test), 5, time.process_time)
    decoding, back = best_seconds(lambda: tok.decode(ids), 5, time.process_time)
    assert back == test
    table = (tok._table.cells.nbytes + tok._records.words.nbytes + tok._records.long_strings.nbytes) / 1e6
    return row(f"cells, carry {carry}", test, len(ids.values), build, table, encoding, decoding)


def row(name, test, tokens, build, table, encoding, decoding):
    size = sum(map(len, test))
    return {
        "code": name,
        "bytes per token": size / tokens,
        "build s": build,
        "tables MB": table or "-",
        "encode MB/s": size / 1e6 / encoding if encoding else "-",
        "decode MB/s": size / 1e6 / decoding if decoding else "-",
        "wrong windows": "-",
    }


BUILD = """
import sys, time
from tersely.compress import EqualInfoTokenizer
raw = sys.stdin.buffer.read()
texts = [raw[i : i + 10_000] for i in range(0, len(raw), 10_000)]
EqualInfoTokenizer.train(texts[:9], bits=9, carry=1)
started, before = time.perf_counter(), time.process_time()
EqualInfoTokenizer.train(texts, bits=16, carry=int(sys.argv[1]))
peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(time.perf_counter() - started, time.process_time() - before, peak)
"""


def builds(train):
    """Counting and building from 16 MB, in a process of its own: seconds, processor seconds, peak memory."""
    import sys

    raw = b"\n".join(train)[:BUILD_BYTES]
    for carry in (0, 1, 2):
        command = [sys.executable, "-P", "-c", BUILD, str(carry)]
        done = subprocess.run(command, input=raw, capture_output=True, check=True)
        wall, cpu, peak = map(float, done.stdout.split())
        yield carry, {"wall s": wall, "processor s": cpu, "peak MB": peak / 1e3}


def rows(data, held_out):
    from tersely.compress.equal_info.models import NgramModel

    train, test = split(corpus(data), held_out)
    model = NgramModel.train(train)
    yield from of_paper(train, test, model)
    for carry in (0, 1, 2):
        yield of_code(train, test, model, carry)
    yield of_bpe("BPE, words of GPT-2", train, test, True)
    yield of_bpe("BPE, lines", train, test, False)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--held-out", choices=["documents", "files"], default="documents")
    given = parser.parse_args()
    found = list(rows(given.data, given.held_out))
    by_name = {one["code"]: one for one in found}
    words = by_name["BPE, words of GPT-2"]
    for one in found:
        one["over Delay"] = one["bytes per token"] / by_name["paper, Delay"]["bytes per token"] - 1
        one["over BPE"] = one["bytes per token"] / words["bytes per token"] - 1
        for kind in ("encode", "decode"):
            speed = one[f"{kind} MB/s"]
            one[f"{kind} / BPE"] = speed / words[f"{kind} MB/s"] if speed != "-" else "-"
    train, test = split(corpus(given.data), given.held_out)
    build = {f"carry {carry}": figures for carry, figures in builds(train)}
    note = f"held out by {given.held_out}: {sum(map(len, train)):,} bytes of training, {sum(map(len, test)):,} of test; "
    note += f"built from 16 MB in a process of its own: {json.dumps(build)}"
    publish("equal_info" + ("_files" if given.held_out == "files" else ""), found, note)
