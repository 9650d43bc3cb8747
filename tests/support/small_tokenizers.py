"""A small tokenizer of each family, trained where it is asked for, and the text they are trained on."""

SENTENCES = [
    f"The {one} {two} walked over the {three}, then it was walking back; it doesn't rest on day {number}."
    for number, (one, two, three) in enumerate(
        (one, two, three)
        for one in ("quick", "slower", "happiest", "unhappy", "caf\u00e9")
        for two in ("fox", "foxes", "walker", "rester", "na\u00efve dog")
        for three in ("bridge", "bridges", "overpass", "mountain", "\u4e2d\u6587")
    )
]


def byte_level(size=400, texts=SENTENCES, specials=("<|endoftext|>",)):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def byte_fallback(size=450, texts=SENTENCES):
    """BPE as Llama's: text with a sign for the blank, bytes where there is no piece."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_and_specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [" " + word for text in texts for word in text.split(" ")]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=bytes_and_specials, show_progress=False, limit_alphabet=60
    )
    tokenizer.train_from_iterator((word.strip() for word in words), trainer)
    return _with_specials(tokenizer, ["<unk>", "<s>", "</s>"])


def unigram(size=300, texts=SENTENCES):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wordpiece(size=300, texts=SENTENCES):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def fast(tokenizer, **parts):
    """The same as a fast tokenizer of transformers."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **parts)


BERT_PARTS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def _with_specials(tokenizer, kept):
    """The tokenizer with only these of its added tokens still special: the pieces of bytes are pieces."""
    import json

    from tokenizers import Tokenizer

    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in kept]
    return Tokenizer.from_str(json.dumps(content))
