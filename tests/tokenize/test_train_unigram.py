"""Unigram from counts: what sentencepiece gives for the repeated words, on bytes, lossless, the same in every run."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import TEXTS

from tersely.errors import UsageError
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.bytelevel import byte_characters
from tersely.tokenize.train import WordCounter, train_unigram
from tersely.tokenize.train.unigram import PRICE


def counted(texts, memory=1 << 22):
    with WordCounter(memory) as counter:
        counter.add(texts)
        return counter.finish(1 << 40, PRICE)


@pytest.fixture(scope="module")
def tokenizer():
    return train_unigram(counted(TEXTS), 300)


def test_counts_stand_for_repeated_words(tokenizer):
    sentencepiece = pytest.importorskip("sentencepiece")
    words = counted(TEXTS)
    characters = byte_characters()
    repeated = [
        "".join(characters[byte] for byte in word)
        for word, count in zip(words.words, words.counts.tolist(), strict=True)
        for _ in range(count)
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(repeated),
        model_writer=model,
        vocab_size=1 + len(set("".join(repeated))) + 300 - 257,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        split_by_unicode_script=False,
        split_by_number=False,
        character_coverage=1.0,
        max_sentencepiece_length=32,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    peer = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = {peer.id_to_piece(token) for token in range(len(peer)) if not peer.is_unknown(token)}
    mine = set(tokenizer.get_vocab()) - {"<|endoftext|>"}
    assert {piece for piece in mine if len(piece) > 1} == {piece for piece in pieces if len(piece) > 1}


@given(text=st.text())
def test_any_text_round_trips_and_nothing_is_unknown(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_sign_for_blanks_stays_itself(tokenizer):
    text = "a\u2581b \u2581\n\t\x00  c"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_same_words_give_the_same_file_in_any_order(tokenizer):
    assert train_unigram(counted(TEXTS[::-1], memory=1), 300).to_str() == tokenizer.to_str()


def test_special_tokens_come_last_and_the_file_opens(tmp_path, tokenizer):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    mine = SubwordTokenizer.load(tmp_path / "tokenizer.json")
    assert mine.eos_id == tokenizer.get_vocab_size() - 1
    assert mine.decode(mine.encode(TEXTS)) == [text.encode() for text in TEXTS]


def test_no_words_give_the_bytes():
    empty = train_unigram(counted([]), 300)
    assert empty.get_vocab_size() == 257
    assert empty.decode(empty.encode("\u00e9 a").ids) == "\u00e9 a"


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(UsageError, match="too small"):
        train_unigram(counted(TEXTS), 256)


def test_a_special_spelled_like_a_learned_token_is_refused():
    for name in ("a", "word"):
        with pytest.raises(UsageError, match=f"special token '{name}' is also a learned token"):
            train_unigram(counted(["word a word a word " * 20, *TEXTS]), 300, specials=[name])


def test_a_corpus_of_one_word_gives_the_bytes():
    trained = train_unigram(counted(["a" * 48]), 600)
    tok = SubwordTokenizer(trained.to_str())
    assert tok.decode(tok.encode(["aaa b"])) == [b"aaa b"]
