"""WordPiece against tokenizers and transformers, and the time a letter takes in words that match badly. One thread.

python benchmarks/wordpiece.py --data ../shared/data
"""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers
from report import arguments, best_seconds, missing, publish

from tersely.corpus import find_sources
from tersely.tokenize import WordPieceRules, WordPieceTokenizer
from tersely.tokenize.wordpiece.rules import read_wordpiece


def texts_of(folder, megabytes):
    """Documents of a folder, evenly from all of its files, up to that many MB; without spelled special tokens."""
    sources = find_sources([folder])[0]
    found = []
    for source in sources:
        size = 0
        for batch in source.batches():
            for text in batch.texts:
                if size < megabytes * 1e6 / len(sources) and "[" not in text:
                    found.append(text)
                    size += len(text.encode())
    return found


def corpora(data):
    """Speeds on text of several kinds, the ids checked to be equal."""
    from transformers import BertTokenizer

    file = data / "tokenizers" / "bert-base-cased" / "vocab.txt"
    if not file.exists():
        missing(f"the shared data, with {file}")
    for name, lowercase in (("prose", False), ("prose", True), ("code", False), ("multilingual", False)):
        texts = texts_of(data / name, 8)
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        tok = WordPieceTokenizer(read_wordpiece(file).pieces, WordPieceRules(lowercase=lowercase))
        peer = tokenizers.BertWordPieceTokenizer(str(file), lowercase=lowercase)
        model = BertTokenizer(str(file), do_lower_case=lowercase)
        seconds, ids = best_seconds(lambda tok=tok, texts=texts: tok.encode(texts))
        located, _ = best_seconds(lambda tok=tok, texts=texts: tok.encode_with_offsets(texts), repeats=3)
        few = texts[:: max(1, len(texts) // 200)]
        share = sum(len(text.encode()) for text in few) / 1e6
        theirs, encodings = best_seconds(
            lambda peer=peer, few=few: peer._tokenizer.encode_batch_fast(few, add_special_tokens=False),
            repeats=2,
        )
        assert tok.encode(few).to_list() == [encoding.ids for encoding in encodings]
        slow, _ = best_seconds(lambda model=model, few=few: model(few, add_special_tokens=False), repeats=1)
        yield {
            "text": f"{name}, {'lower case' if lowercase else 'cased'}",
            "MB": megabytes,
            "tokens": len(ids.values),
            "tersely MB/s": megabytes / seconds,
            "with offsets MB/s": megabytes / located,
            "tokenizers MB/s": share / theirs,
            "transformers MB/s": share / slow,
            "/ tokenizers": (megabytes / seconds) / (share / theirs),
            "/ transformers": (megabytes / seconds) / (share / slow),
        }


def long_words():
    """Nanoseconds for a letter, in words of which every part is tried in vain up to its last letter."""
    spelled = ["[UNK]", "a", "##a", "##b", *("##" + "a" * n + "b" for n in range(2, 1000, 7))]
    pieces = {piece: i for i, piece in enumerate(dict.fromkeys(spelled))}
    tok = WordPieceTokenizer(pieces, WordPieceRules(max_word_characters=1000))
    peer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(pieces, unk_token="[UNK]", max_input_chars_per_word=1000)
    )
    peer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    for length in (10, 50, 100, 200, 400, 800):
        text = " ".join(["a" * length] * (400_000 // length))
        seconds, _ = best_seconds(lambda text=text: tok.encode([text]))
        few = text[:40_000].rpartition(" ")[0]
        theirs, encodings = best_seconds(lambda few=few: peer.encode_batch_fast([few]), repeats=2)
        assert tok.encode([few]).to_list() == [encodings[0].ids]
        yield {
            "letters in a word": length,
            "tersely ns a letter": seconds / len(text) * 1e9,
            "tokenizers ns a letter": theirs / len(few) * 1e9,
            "ratio": (theirs / len(few)) / (seconds / len(text)),
        }


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    publish(
        "wordpiece", list(corpora(options.data)), "one thread; MB of UTF-8; vocabulary of bert-base-cased"
    )
    publish(
        "wordpiece_long_words",
        list(long_words()),
        "one thread; 143 pieces that share all but their last letter",
    )
