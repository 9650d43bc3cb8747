"""Word segmentation against ``regex.findall`` with the same pattern, in one thread, by CPU time.

python benchmarks/words.py --data SHARED_DATA

"copy" is a plain copy of the bytes into fresh memory, the floor under everything that writes a result.
"""

import time

import numpy as np
import regex
from report import arguments, best_seconds, publish

from tersely import Ragged
from tersely.corpus import find_sources
from tersely.tokenize import WordRule, WordTokenizer, segment
from tersely.tokenize.words.reference import PATTERNS

TEXTS = {
    "English": "prose/peps.jsonl.zst",
    "code": "code/files.jsonl.zst",
    "33 languages": "multilingual/ntrex.jsonl.zst",
}
FINDALL_BYTES = 2_000_000


def documents(path):
    """The texts of a file, shuffled, so that the first ones are of every kind."""
    texts = [text for source in find_sources([path])[0] for batch in source.batches() for text in batch.texts]
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i].encode() for i in order]


def speed(size, call):
    return size / 1e6 / best_seconds(call, clock=time.process_time)[0]


def findall(pattern, texts):
    """Bytes a second of the regular expression, on the first documents; decoding is not counted."""
    few = [text.decode() for text in texts]
    few = few[: max(1, int(np.searchsorted(np.cumsum([len(text) for text in texts]), FINDALL_BYTES)))]
    compiled = regex.compile(pattern)
    call = lambda: [compiled.findall(text) for text in few]  # noqa: E731
    assert segment(few, next(r for r in PATTERNS if PATTERNS[r] == pattern)).lengths.tolist() == list(
        map(len, call())
    )
    return speed(sum(len(text.encode()) for text in few), call)


def rows(data):
    for name, path in TEXTS.items():
        texts = documents(data / path)
        small = [text[i : i + 100] for text in texts for i in range(0, len(text), 100)]
        whole, parts = Ragged.from_rows(texts), Ragged.from_rows(small)
        size = len(whole.values)
        copy = speed(size, lambda w=whole: w.values.copy())
        for rule in WordRule:
            tok = WordTokenizer(rule)
            ids = tok.encode(whole, eos=True)
            mine = speed(size, lambda w=whole, r=rule: segment(w, r))
            theirs = findall(PATTERNS[rule], texts) if rule in PATTERNS else None
            yield {
                "text": name,
                "rule": str(rule),
                "bytes a word": size / len(segment(whole, rule).values),
                "segment": mine,
                "100-byte documents": speed(size, lambda p=parts, r=rule: segment(p, r)),
                "words(ids)": speed(size, lambda t=tok, i=ids: t.words(i)),
                "findall": theirs or "",
                "segment / findall": mine / theirs if theirs else "",
                "segment / copy": mine / copy,
            }


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    publish("words", list(rows(options.data)), "MB/s of UTF-8, one thread, CPU time; the regex on 2 MB")
