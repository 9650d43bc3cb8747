"""Ids of every vocabulary against its own library, on every shared text: all of it, not a sample.

python benchmarks/equal_ids.py [--only gpt2]

A document that spells a special token is left out of the comparison with ``tokenizers`` where that finds it (it should
not); how many these are is in the table. Round trip: how many documents decode to their own bytes.
"""

import base64
import warnings
from pathlib import Path

from report import arguments, publish

from tersely import load_tokenizer
from tersely.corpus import find_sources
from tersely.errors import TokenizeError
from tersely.tokenize.subword.tiktoken_ranks import ENCODINGS

VOCABULARIES = {
    "gpt2": "gpt2/tokenizer.json",
    "phi-3-mini": "phi-3-mini/tokenizer.json",
    "t5-small": "t5-small/tokenizer.json",
    "cl100k_base": "cl100k_base.tiktoken",
    "sentencepiece unigram": "sentencepiece/test_sentencepiece.model",
    "sentencepiece bpe": "sentencepiece/test_sentencepiece_bpe.model",
    "sentencepiece char": "sentencepiece/test_sentencepiece_bpe_char.model",
    "sentencepiece bytes": "sentencepiece/test_sentencepiece_with_bytefallback.model",
    "bert-base-cased": "bert-base-cased/vocab.txt",
    "rwkv": "rwkv_vocab_v20230424.txt",
}


def peer(file):
    """A function from texts to lists of ids, by the library that the file belongs to."""
    if file.suffix == ".json":
        import tokenizers

        library = tokenizers.Tokenizer.from_file(str(file))
        library.no_truncation()
        library.no_padding()
        return lambda texts: [row.ids for row in library.encode_batch(texts, add_special_tokens=False)]
    if file.suffix == ".tiktoken":
        import tiktoken

        ranks = {base64.b64decode(a): int(b) for a, b in map(bytes.split, file.read_bytes().splitlines())}
        pattern = ENCODINGS[file.stem].pattern
        library = tiktoken.Encoding(file.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        return lambda texts: [library.encode_ordinary(text) for text in texts]
    if file.suffix == ".model":
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_file=str(file)).encode
    if file.name == "vocab.txt":
        import tokenizers

        library = tokenizers.BertWordPieceTokenizer(str(file), lowercase=False)
        return lambda texts: [row.ids for row in library.encode_batch(texts, add_special_tokens=False)]
    return longest_match(file)


def longest_match(file):
    """RWKV's rule in plain Python: the longest token that fits, from the left."""
    import ast

    lines = (line.split(" ", 1) for line in file.read_text(encoding="utf-8").splitlines())
    tokens = {}
    for number, rest in lines:
        token = ast.literal_eval(rest[: rest.rindex(" ")])
        tokens[token.encode() if isinstance(token, str) else token] = int(number)
    longest = max(map(len, tokens))

    def encode(text):
        raw, ids, at = text.encode(), [], 0
        while at < len(raw):
            size = next(n for n in range(min(longest, len(raw) - at), 0, -1) if raw[at : at + n] in tokens)
            ids.append(tokens[raw[at : at + size]])
            at += size
        return ids

    return lambda texts: [encode(text) for text in texts]


def rows(data, only):
    sources = find_sources([data / kind for kind in ("prose", "multilingual", "code", "prompts")])[0]
    spelled = (
        "</s>",
        "<s>",
        "<pad>",
        "<unk>",
        "<|endoftext|>",
        "[UNK]",
        "[SEP]",
        "[CLS]",
        "[MASK]",
        "<|",
        "<extra_id",
    )
    for name, path in VOCABULARIES.items():
        if only and only not in name:
            continue
        file = Path(data / "tokenizers" / path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tok = load_tokenizer(file)
        theirs = peer(file)
        found = dict.fromkeys(("documents", "unequal", "left out", "refused", "round trips"), 0)
        size = 0
        for source in sources:
            for batch in source.batches():
                kept = [text for text in batch.texts if not any(special in text for special in spelled)]
                found["left out"] += len(batch.texts) - len(kept)
                try:
                    ours = tok.encode(kept)
                except TokenizeError as error:
                    print(f"{name}: {error}")
                    found["refused"] += 1
                    continue
                found["documents"] += len(kept)
                found["unequal"] += sum(
                    list(a) != list(b) for a, b in zip(ours.to_list(), theirs(kept), strict=True)
                )
                found["round trips"] += sum(
                    raw == text.encode() for raw, text in zip(tok.decode(ours), kept, strict=True)
                )
                size += sum(len(text.encode()) for text in kept)
        print(name, found, flush=True)
        yield {"vocabulary": name, "MB": size / 1e6} | found


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--only", help="of the vocabularies, those with this in their name")
    options = parser.parse_args()
    publish(
        "equal_ids",
        list(rows(options.data, options.only)),
        "ids against those of the vocabulary's own library",
    )
