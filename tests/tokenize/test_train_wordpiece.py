"""WordPiece from counts of chunks: the words and the tokens of tokenizers, decided the same way in every run."""

from collections import Counter

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from small import TEXTS
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tersely.errors import UsageError
from tersely.tokenize import SubwordTokenizer
from tersely.tokenize.train import Split, WordCounter, bert_words, train_wordpiece
from tersely.tokenize.train.wordpiece import PRICE, SPECIALS


def words_of(texts, lowercase=True):
    with WordCounter(1 << 22, Split.BLANKS) as counter:
        counter.add(texts)
        chunks = counter.finish(1 << 40, PRICE)
    with bert_words(chunks, 1 << 22, lowercase=lowercase) as words:
        return words.finish(1 << 40, PRICE)


def words_of_whole_texts(texts, lowercase=True):
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    splitter = pre_tokenizers.BertPreTokenizer()
    split = (splitter.pre_tokenize_str(normalizer.normalize_str(text)) for text in texts)
    return Counter(word.encode() for words in split for word, _ in words)


SIGNS = "aA\x0c\r\u00c5e\u0301\u0300\u4e2d-' \t\n\u00a0\u3000\u200d\x00\ufffd\u03a3\u0130\u1e9e.b"


@settings(max_examples=200)
@given(st.lists(st.text(SIGNS, max_size=30) | st.text(max_size=20), max_size=4), st.booleans())
def test_chunks_give_the_words_that_whole_texts_give(texts, lowercase):
    words = words_of(texts, lowercase)
    mine = {bytes(word): count for word, count in zip(words.words, words.counts.tolist(), strict=True)}
    assert mine == words_of_whole_texts(texts, lowercase)


def trained_by_the_library(texts, vocab_size):
    peer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    peer.normalizer, peer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIALS), show_progress=False
    )
    peer.train_from_iterator(texts, trainer)
    return peer


def test_the_vocabulary_is_that_of_tokenizers_where_no_counts_are_equal():
    words = ["th\u00e9se", "Thes", "in", "ings", "the", "ing", "th"]
    texts = [" ".join([word] * 3**place) for place, word in enumerate(words, 1)]
    mine, peer = train_wordpiece(words_of(texts), 60), trained_by_the_library(texts, 60)
    assert set(mine.get_vocab()) == set(peer.get_vocab())
    assert [mine.encode(text).tokens for text in texts] == [peer.encode(text).tokens for text in texts]


@pytest.mark.shared_data
def test_the_vocabulary_differs_from_that_of_tokenizers_by_ties_alone(shared):
    """The library itself gives other tokens in every run, where its hash table decides between equal counts."""
    from tersely.corpus import find_sources

    batches = find_sources([shared / "prose/peps.jsonl.zst"])[0][0].batches()
    texts = next(iter(batches)).texts
    mine = set(train_wordpiece(words_of(texts), 4000).get_vocab())
    peer = set(trained_by_the_library(texts, 4000).get_vocab())
    assert len(mine) == len(peer) == 4000
    assert len(mine - peer) < 20


def test_specials_come_first_and_the_file_opens(tmp_path):
    tokenizer = train_wordpiece(words_of(TEXTS), 300, specials=["<mine>"])
    assert [tokenizer.id_to_token(token) for token in range(6)] == [*SPECIALS, "<mine>"]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ids = SubwordTokenizer.load(tmp_path / "tokenizer.json").encode(TEXTS)
    assert not np.isin(ids.values, range(6)).any()


def test_characters_beyond_a_quarter_of_the_vocabulary_are_unknown():
    texts = ["".join(map(chr, range(0x4E00, 0x4F00))), "\u4e00\u4e01 " * 50]
    tokenizer = train_wordpiece(words_of(texts), 40)
    assert tokenizer.get_vocab_size() <= 40
    assert tokenizer.encode("\u4e00").tokens == ["\u4e00"]
    assert tokenizer.encode("\u4eff").tokens == ["[UNK]"]


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="too small"):
        train_wordpiece(words_of(TEXTS), 4)
    with pytest.raises(UsageError, match="given twice"):
        train_wordpiece(words_of(TEXTS), 300, specials=["[UNK]"])
    with pytest.raises(UsageError, match="also a learned token"):
        train_wordpiece(words_of(TEXTS), 300, specials=["word"])


def test_no_words_give_the_special_tokens():
    assert train_wordpiece(words_of([]), 100).get_vocab_size() == len(SPECIALS)
