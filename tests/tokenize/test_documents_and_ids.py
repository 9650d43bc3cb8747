"""What counts as documents and as ids: one rule, the same for every tokenizer."""

import numpy as np
import pytest

from tersely import Ragged
from tersely.errors import TokenizeError, UsageError
from tersely.tokenize import ByteTokenizer, KmerTokenizer, RwkvTokenizer, WordPieceTokenizer, WordTokenizer
from tersely.tokenize.words import segment

DOCUMENTS = ["ACGT", "", "caf\u00e9 acgt", b"TTT"]
PIECES = {"[UNK]": 0, **{char: i + 1 for i, char in enumerate("acgtfe")}}
PIECES |= {f"##{char}": i + 10 for i, char in enumerate("acgtfe")}
TOKENIZERS = {
    "bytes": ByteTokenizer(),
    "raw bytes": ByteTokenizer("hnet"),
    "words": WordTokenizer(),
    "kmer": KmerTokenizer(3),
    "rwkv": RwkvTokenizer({i + 1: bytes([i]) for i in range(256)} | {300: b"AC"}, threads=1),
    "wordpiece": WordPieceTokenizer(PIECES, threads=1),
}


@pytest.fixture(params=list(TOKENIZERS))
def tok(request):
    return TOKENIZERS[request.param]


def raw_rows(step=1):
    """The documents as a Ragged of bytes, every ``step``-th of a larger array."""
    rows = [text if isinstance(text, bytes) else text.encode() for text in DOCUMENTS]
    held = np.zeros(abs(step) * sum(map(len, rows)), np.uint8)[::step]
    held[:] = list(b"".join(rows))
    return Ragged(held, np.cumsum([0, *map(len, rows)]))


@pytest.mark.parametrize("wrap", [tuple, iter, lambda texts: (text for text in texts), dict.fromkeys])
def test_documents_may_come_in_anything_that_can_be_gone_through_once(tok, wrap):
    expected, spans = tok.encode_with_offsets(DOCUMENTS, unit="character")
    assert len(expected) == len(DOCUMENTS)
    assert tok.encode(wrap(DOCUMENTS)).equals(expected)
    ids, found = tok.encode_with_offsets(wrap(DOCUMENTS), unit="character")
    assert ids.equals(expected)
    assert found.equals(spans)


@pytest.mark.parametrize("step", [1, 3, -1])
def test_bytes_need_not_lie_one_after_another_in_memory(tok, step):
    expected, spans = tok.encode_with_offsets(DOCUMENTS)
    ids, found = tok.encode_with_offsets(raw_rows(step))
    assert ids.equals(expected)
    assert found.equals(spans)
    assert segment(raw_rows(step)).equals(segment(DOCUMENTS))


@pytest.mark.parametrize("texts", ["text", b"text", bytearray(b"text"), memoryview(b"text"), 5, None])
def test_one_document_and_none_are_refused(tok, texts):
    with pytest.raises(TokenizeError, match="encode takes a list of documents"):
        tok.encode(texts)


@pytest.mark.parametrize(
    "rows",
    [
        Ragged(raw_rows(), [0, 2, 4]),
        Ragged(np.zeros((4, 2), np.uint8), [0, 4]),
        Ragged(np.zeros(4, np.int64), [0, 4]),
    ],
    ids=["nested", "two-dimensional", "wide"],
)
def test_rows_of_something_other_than_bytes_are_refused(tok, rows):
    for call in (tok.encode, tok.encode_with_offsets, segment):
        with pytest.raises(TokenizeError, match="rows of bytes"):
            call(rows)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (Ragged(np.ones(4, np.int64), [0, 1, 3, 4]), "rows of rows"),
        (np.ones((3, 2), np.int64), "2 dimensions"),
        (np.array([1.0, 2.0, 1.0]), "integers, not float64"),
        (np.array([True, False, True]), "integers, not bool"),
        (np.array([1, -1, 1]), "the id -1 is not in the vocabulary"),
        (np.array([1, 2**40, 1]), f"the id {2**40} is not in the vocabulary"),
        (np.array([1, 2**64 - 1, 1], np.uint64), f"the id {2**64 - 1} is not in the vocabulary"),
    ],
    ids=["nested", "two-dimensional", "floats", "bools", "negative", "large", "very large"],
)
def test_what_is_no_row_of_ids_is_refused(tok, values, words):
    ids = Ragged(values, [0, 2, 3])
    with pytest.raises(TokenizeError, match=words):
        tok.decode(ids)
    if isinstance(tok, WordTokenizer):
        for call in (tok.words, tok.pieces):
            with pytest.raises(TokenizeError, match=words):
                call(ids)


def test_the_first_id_outside_is_refused_and_the_last_inside_is_not(tok):
    last = tok.vocab_size - 1
    tok.decode(Ragged(np.array([last]), [0, 1]))
    with pytest.raises(TokenizeError, match=f"the id {last + 1} is not in the vocabulary"):
        tok.decode(Ragged(np.array([last + 1]), [0, 1]))


def test_empty_rows_of_any_dtype_decode_to_nothing(tok):
    assert tok.decode(Ragged.from_rows([[], []])) == [b"", b""]


@pytest.mark.parametrize("most", [4.5, 8.0, "7", True, 3, -1])
def test_words_are_cut_at_whole_numbers_of_bytes_only(most):
    with pytest.raises(UsageError, match=r"max_word_bytes is .* allow 4 or more, an integer"):
        WordTokenizer(max_word_bytes=most)
