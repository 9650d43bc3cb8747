"""Vocabularies that tests of several files take."""

import io
import unicodedata

import pytest
import sentencepiece
import tokenizers
from small import TEXTS


@pytest.fixture(scope="session")
def spm_model():
    """A small Unigram model with byte fallback, as the library trains it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3), model_writer=model, vocab_size=400, byte_fallback=True, minloglevel=9,
        hard_vocab_limit=False, character_coverage=1.0,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="session")
def llama_json():
    """A BPE of Llama 2's kind: a space put before the text, byte fallback, its own special tokens in the vocabulary."""
    model = tokenizers.models.BPE(
        {"<unk>": 0, "<s>": 1, "</s>": 2}
        | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
        | {piece: 259 + i for i, piece in enumerate(["\u2581", "a", "b", "\u2581a", "ab", "\u2581ab", "\u2581\u2581"])},
        [("\u2581", "a"), ("a", "b"), ("\u2581", "ab"), ("\u2581", "\u2581")],
        unk_token="<unk>", fuse_unk=True, byte_fallback=True,
    )  # fmt: skip
    tok = tokenizers.Tokenizer(model)
    tok.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")]
    )
    tok.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("\u2581", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tok.to_str()


@pytest.fixture(scope="session")
def t5_json():
    """A Unigram vocabulary behind a normaliser that changes characters."""
    characters = sorted({c for text in TEXTS for c in unicodedata.normalize("NFKC", text) if not c.isspace()})
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("\u2581", -2.0), ("\u2581a", -2.5), ("fi", -2.6)]
    tok = tokenizers.Tokenizer(
        tokenizers.models.Unigram([*pieces, *((c, -5.0) for c in characters)], unk_id=0)
    )
    tok.normalizer = tokenizers.normalizers.NFKC()
    tok.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tok.decoder = tokenizers.decoders.Metaspace()
    tok.add_special_tokens(["<unk>", "</s>"])
    return tok.to_str()
