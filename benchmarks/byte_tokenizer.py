"""Byte tokenizer against transformers' ByT5Tokenizer, and against numpy's own "add 3 and widen to uint16". One thread.

python benchmarks/byte_tokenizer.py
"""

import numpy as np
from report import arguments, best_seconds, missing, publish

from tersely.tokenize import ByteTokenizer


def text(size, ascii_only):
    words = ["the", "quick", "brown", "fox", "cafe" if ascii_only else "caf\u00e9", "jumps", "over"]
    return " ".join(np.random.default_rng(0).choice(words, size))[:size]


def rows():
    try:
        from transformers import ByT5Tokenizer
    except ImportError:
        missing("transformers")
    peer, tok = ByT5Tokenizer(), ByteTokenizer()
    for size, documents, ascii_only in (
        (100, 80_000, False),
        (1000, 8000, False),
        (1000, 8000, True),
        (100_000, 80, False),
    ):
        whole = text(size, ascii_only)
        texts = ["".join(whole) for _ in range(documents)]
        raw = [document.encode() for document in texts]
        flat = np.frombuffer(b"".join(raw), np.uint8)
        out = np.empty(len(flat), np.uint16)
        megabytes = len(flat) / 1e6
        few = texts[: max(1, 200_000 // size)]
        theirs, expected = best_seconds(lambda few=few: peer(few).input_ids, repeats=2)
        assert tok.encode(few, eos=True).to_list() == expected
        speeds = {
            "ByT5Tokenizer": sum(len(t.encode()) for t in few) / 1e6 / theirs,
            "encode(str)": megabytes / best_seconds(lambda t=texts: tok.encode(t, eos=True))[0],
            "encode(bytes)": megabytes / best_seconds(lambda r=raw: tok.encode(r, eos=True))[0],
            "numpy, new array": megabytes / best_seconds(lambda f=flat: np.add(f, np.uint16(3)))[0],
            "numpy, same array": megabytes / best_seconds(lambda f=flat, o=out: np.add(f, 3, out=o))[0],
        }
        ids = tok.encode(raw, eos=True)
        speeds["decode"] = megabytes / best_seconds(lambda i=ids: tok.decode(i))[0]
        ratios = {
            "str / ByT5": speeds["encode(str)"] / speeds["ByT5Tokenizer"],
            "str / numpy": speeds["encode(str)"] / speeds["numpy, new array"],
            "bytes / numpy": speeds["encode(bytes)"] / speeds["numpy, new array"],
        }
        yield {"characters": size, "ASCII": str(ascii_only)} | speeds | ratios


if __name__ == "__main__":
    arguments(__doc__).parse_args()
    publish("byte_tokenizer", list(rows()), "MB/s of UTF-8, 8 MB at a time, with end ids")
