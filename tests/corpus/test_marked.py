"""Documents of segments: which ids they get, which of them are trained, and what only looks like a special token."""

import numpy as np
import pytest
from chats import byte_level, metaspace, word_level
from hypothesis import given
from hypothesis import strategies as st

from tersely import Ragged, load_tokenizer
from tersely.corpus.marked import (
    Segment,
    count_untrained,
    encode_marked,
    labels_of,
    without_lone_surrogates,
)
from tersely.errors import TokenizeError
from tersely.shards import IGNORED
from tersely.tokenize import ByteTokenizer, SubwordTokenizer

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}
VOCABULARIES = {
    "byte-level": byte_level,
    "byte-level, space put first": lambda: byte_level(add_prefix_space=True),
    "space put before the document": lambda: metaspace("first"),
    "space put before every stretch": lambda: metaspace("always"),
    "space put by a normaliser": lambda: metaspace("normaliser"),
}


@pytest.fixture(scope="module", params=VOCABULARIES)
def subword(request):
    return SubwordTokenizer(VOCABULARIES[request.param](), NAMED, fast=False)


def asked(text):
    return Segment(text, trained=False, trusted=False)


def answered(text):
    return Segment(text, trained=True, trusted=False)


def template(text):
    return Segment(text, trained=False, trusted=True)


def segments(text):
    return st.lists(st.builds(Segment, text, st.booleans(), st.booleans()), max_size=5).map(tuple)


@given(documents=st.lists(segments(st.text(max_size=9)), max_size=4))
def test_of_bytes_those_are_trained_that_are_in_trained_segments(documents):
    tok = ByteTokenizer("blt")
    ids, trained = encode_marked(documents, tok, bos=True)
    assert ids.equals(
        tok.encode(["".join(part.text for part in document) for document in documents], bos=True)
    )
    expected = [
        [False] + [part.trained for part in document for _ in part.text.encode()] for document in documents
    ]
    assert trained.to_list() == expected
    assert trained.values.dtype == np.bool_


@given(documents=st.lists(segments(st.text("ab \u00e9\n<|>s/", max_size=6)), max_size=4))
def test_where_nothing_is_trusted_the_ids_are_those_of_the_whole_text(subword, documents):
    plain = [tuple(Segment(part.text, part.trained, False) for part in document) for document in documents]
    texts = ["".join(part.text for part in document) for document in plain]
    ids, trained = encode_marked(plain, subword, eos=True)
    assert ids.equals(subword.encode(texts, eos=True))
    _, spans = subword.encode_with_offsets(texts)
    for document, flags, ranges in zip(plain, trained, spans, strict=True):
        of_byte = [part.trained for part in document for _ in part.text.encode()]
        last = [part.trained for part in document if part.text.strip()][-1:]
        expected = [any(of_byte[start : max(stop, start + 1)]) for start, stop in ranges]
        assert flags.tolist() == [*expected, any(last)]


@pytest.mark.parametrize("kind", ["words", "kmer:3", "bytes", "bytes:hnet"])
def test_prompts_and_completions_work_with_every_kind_of_tokenizer(kind):
    tok = load_tokenizer(kind)
    eos = tok.eos_id is not None
    ids, trained = encode_marked([(asked("ACGTTA"), answered("GATTACA"))], tok, eos=eos)
    assert ids.equals(tok.encode(["ACGTTAGATTACA"], eos=eos))
    assert not trained[0][0]
    assert trained[0][-1]


def test_a_token_across_the_border_counts_to_the_completion():
    tok = SubwordTokenizer(byte_level(), fast=False)
    ((word,),) = tok.encode([" word"]).to_list()
    ids, trained = encode_marked([(asked(" wo"), answered("rd wo"), asked("rd word"))], tok)
    assert ids.to_list() == [[word] * 3]
    assert trained.to_list() == [[True, True, False]]


def test_only_trusted_text_spells_special_tokens(subword):
    special = subword.model.token_id("<|im_end|>")
    for document, count in [
        ((template("<|im_end|>"),), 1),
        ((asked("<|im_end|>"),), 0),
        ((template("<|im_"), asked("end|>")), 0),
        ((asked("<|im_"), template("end|>")), 0),
        ((template("<|im_"), Segment("end|>", trained=True, trusted=True)), 1),
        ((template("a<|im_end|><|im_end|>"), asked("<|im_end|>"), template("<|im_end|>")), 3),
    ]:
        ids, _ = encode_marked([document], subword)
        assert ids[0].tolist().count(special) == count
        written = "".join(part.text for part in document).encode()
        if not count:
            assert subword.decode(ids)[0].lstrip() == written


def test_a_special_token_is_trained_where_its_spelling_is():
    tok = SubwordTokenizer(metaspace("first"), NAMED, fast=False)
    document = (template("<|assistant|>"), Segment("\n\nhi<|end|>", True, True), template("\n"))
    ids, trained = encode_marked([document], tok)
    spelled = [tok.model.token_id(token) for token in ("<|assistant|>", "h", "i", "<|end|>")]
    assert ids.to_list() == [spelled]  # both tokens take in the blanks that follow them
    assert trained.to_list() == [[False, True, True, True]]


def test_bos_and_eos_are_not_put_twice(subword):
    bos, eos = subword.bos_id, subword.eos_id

    def ends(*document):
        (row,) = encode_marked([document], subword, bos=True, eos=True)[0].to_list()
        return row.count(bos), row.count(eos), row[0] == bos

    assert ends(asked("a"), answered("b")) == (1, 1, True)
    assert ends(template("<s>"), answered("b")) == (1, 1, True)
    assert ends(template("<s>"), answered("b"), template("</s>")) == (1, 1, True)
    assert ends(answered("b"), template("</s>\n ")) == (1, 1, True)
    assert ends(answered("b"), template("</s>"), asked("c")) == (1, 2, True)
    assert ends(asked("<s>"), answered("</s>")) == (1, 1, True)
    assert ends() == (1, 1, True)


@pytest.mark.parametrize(
    ("document", "trained"),
    [
        ((asked("a"), answered("b")), True),
        ((answered("b"), template("\n")), True),
        ((answered("b"), asked("c")), False),
        ((), False),
    ],
)
def test_eos_is_trained_if_what_was_written_last_is(document, trained):
    _, flags = encode_marked([document], ByteTokenizer(), eos=True)
    assert flags[0][-1] == trained


def test_labels_stand_at_their_ids_and_are_not_shifted():
    ids, trained = encode_marked([(asked("ab"), answered("cd")), (asked("e"),)], ByteTokenizer(), eos=True)
    labels = labels_of(ids, trained)
    assert labels.to_list() == [[IGNORED, IGNORED, 102, 103, 1], [IGNORED, IGNORED]]
    assert labels.values.dtype == np.int32
    assert count_untrained(trained) == 1
    assert count_untrained(Ragged(np.empty(0, bool), [0])) == 0
    assert count_untrained(Ragged(np.array([False, True]), [0, 0, 1, 2, 2])) == 3


def test_labels_feed_a_model_as_those_of_trl_do():
    import torch
    from small import tiny_llama

    from tersely.pack import PackedCollator

    tok = ByteTokenizer()
    documents = [(asked("question "), answered("answer")), (asked("q"), answered("longer answer"))]
    ids, trained = encode_marked(documents, tok, eos=True)
    labels = labels_of(ids, trained)
    row = {"input_ids": ids.values, "labels": labels.values, "seq_lengths": ids.lengths}
    model = tiny_llama().eval()
    with torch.no_grad():
        packed = model(**PackedCollator(model)([row])).loss
        total = count = 0
        for own, target in zip(ids, labels, strict=True):
            one = torch.tensor(own.astype(np.int64))[None]
            logits = model(input_ids=one).logits[0, :-1]
            wanted = torch.tensor(target.astype(np.int64))[1:]
            total += torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum")
            count += int((wanted != -100).sum())
    assert count == len("answer") + len("longer answer") + 2
    assert torch.allclose(packed, total / count, atol=1e-5)


def test_errors_name_the_document():
    words = SubwordTokenizer(word_level(), NAMED, fast=False)
    good, bad = (asked("hi"),), (template("<s>"), asked("hi "), answered("<s>"))
    ok, _ = encode_marked([good, (template("<s>"), asked("hi"))], words)
    assert ok.to_list() == [[1], [words.bos_id, 1]]
    with pytest.raises(TokenizeError, match="document 1 has a lone surrogate") as caught:
        encode_marked(
            [good, (template("<s>"), asked("a"), answered("\ud800"))], SubwordTokenizer(byte_level(), NAMED)
        )
    assert caught.value.document == 1
    with pytest.raises(TokenizeError, match="no bos id"):
        encode_marked([good], ByteTokenizer(), bos=True)
    assert bad


def test_lone_surrogates_are_replaced_in_segments():
    document = (asked("a\ud800"), answered("b"))
    assert without_lone_surrogates(document) == ((asked("a\ufffd"), answered("b")), True)
    assert without_lone_surrogates(document[1:]) == (document[1:], False)
