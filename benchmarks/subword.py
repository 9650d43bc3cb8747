"""Subword tokenizers against the libraries themselves, on the same texts in the same run. One thread, CPU time.

python benchmarks/subword.py

"fresh" are texts that the engine has not seen before (engines keep caches, and a second run of the same texts flatters
them): each corpus is cut into as many parts as there are measurements of an engine, and each part is used once.
"""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import base64
import time

from report import arguments, missing, publish

from tersely.corpus import find_sources
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.subword.tiktoken_ranks import ENCODINGS
from tersely.tokenize.subword.word_engine import WordEngine

CORPORA = {
    "English": "prose/peps.jsonl.zst",
    "code": "code/files.jsonl.zst",
    "33 languages": "multilingual/ntrex.jsonl.zst",
}
PARTS = 3


def documents(path, megabytes=6):
    texts, size = [], 0
    for batch in find_sources([path])[0][0].batches():
        for text in batch.texts:
            texts.append(text)
            size += len(text.encode())
            if size > megabytes * 1e6:
                return texts
    return texts


def speed(encode, parts):
    """The best of the parts, each of which is encoded once, in MB of UTF-8 a second."""
    best = 0.0
    for texts in parts:
        size = sum(len(text.encode()) for text in texts) / 1e6
        started = time.process_time()
        encode(texts)
        best = max(best, size / (time.process_time() - started))
    return best


def rows(data):
    try:
        import sentencepiece
        import tiktoken
        import tokenizers
        from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        missing(str(error))
    folder = data / "tokenizers"
    gpt2 = str(folder / "gpt2" / "tokenizer.json")
    library = tokenizers.Tokenizer.from_file(gpt2)
    fast = PreTrainedTokenizerFast(tokenizer_file=gpt2)
    ranks = (folder / "cl100k_base.tiktoken").read_bytes()
    cl100k = tiktoken.Encoding(
        "cl100k", pat_str=ENCODINGS["cl100k_base"].pattern, special_tokens={},
        mergeable_ranks={base64.b64decode(a): int(b) for a, b in map(bytes.split, ranks.splitlines())},
    )  # fmt: skip
    model = str(folder / "sentencepiece" / "test_sentencepiece_with_bytefallback.model")
    piece = sentencepiece.SentencePieceProcessor(model_file=model)
    tok = {
        name: SubwordTokenizer.load(folder / name, threads=1, fast=False)
        for name in ("gpt2/tokenizer.json", "cl100k_base.tiktoken")
    }
    engines = {
        "gpt2: tersely": tok["gpt2/tokenizer.json"].encode,
        "gpt2: tokenizers": lambda texts: library.encode_batch(texts, add_special_tokens=False),
        "gpt2: transformers": lambda texts: fast(texts, add_special_tokens=False)["input_ids"],
        "cl100k: tersely": tok["cl100k_base.tiktoken"].encode,
        "cl100k: tiktoken": lambda texts: [cl100k.encode_ordinary(text) for text in texts],
        "SentencePiece: tersely": SubwordTokenizer.load(model, threads=1).encode,
        "SentencePiece: its library": lambda texts: piece.encode(texts, num_threads=1),
    }
    words = SubwordTokenizer.load(gpt2, threads=1, fast=False)
    engines["gpt2: tersely, words"] = WordEngine.of(words.model).encode
    ranks_file = folder / "cl100k_base.tiktoken"
    engines["cl100k: tersely, words"] = WordEngine.of(
        SubwordTokenizer.load(ranks_file, threads=1, fast=False).model
    ).encode
    try:
        import gigatoken
    except ImportError:
        print("gigatoken is not installed: its rows are left out")
    else:
        bare = gigatoken.Tokenizer.from_json((folder / "gpt2" / "tokenizer.json").read_text())
        checked = SubwordTokenizer.load(gpt2, threads=1)
        checked._fast._unchecked = 0  # what a long job sees: the first megabytes, checked, are behind it
        engines["gpt2: tersely, fast"] = checked.encode
        engines["gpt2: gigatoken"] = lambda texts: bare.encode_batch(texts, parallel=False)
    parts = {}
    for name, path in CORPORA.items():
        texts = documents(data / path)
        parts[name] = [texts[start::PARTS] for start in range(PARTS)]
    for engine, encode in engines.items():
        encode(["warm up"])
        yield {"engine": engine} | {f"{name}, MB/s": speed(encode, cut) for name, cut in parts.items()}


if __name__ == "__main__":
    publish(
        "subword",
        list(rows(arguments(__doc__).parse_args().data)),
        "MB of UTF-8 a second of CPU time, fresh text",
    )
