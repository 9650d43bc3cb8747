"""The mixing model behind a code: against a plain twin, its sums, what counts of a context, files, and a code built by it."""

import itertools

import numpy as np
import pytest
from codes import TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.compress import EqualInfoTokenizer
from tersely.compress.equal_info.contexts import contexts_before, pack, unpack
from tersely.compress.equal_info.models import MixingModel, NgramModel, load_model
from tersely.compress.equal_info.models.mixing.opinions import _log, size_classes
from tersely.compress.equal_info.models.mixing.reference import PlainMixing
from tersely.compress.equal_info.models.mixing.words import folded_bytes, word_of
from tersely.compress.equal_info.report import measure_code
from tersely.compress.logistic import log_table
from tersely.errors import TokenizeError

DOCUMENTS = [
    "The cat sat on the mat. (The Cat!) Then the cat ate the oat that the cat had had.",
    b"\0\xff\xff" * 9,
    "",
    "aa" * 40,
    "caf\u00e9 Caf\u00e9 caf\u00e9s",
]


@pytest.fixture(scope="module")
def model():
    return MixingModel.train(TEXTS)


def packed(*texts):
    return np.array([pack(text) for text in texts], np.uint64)


def test_compiled_loops_and_the_plain_twin_give_the_same_numbers():
    raw = [text.encode() if isinstance(text, str) else text for text in DOCUMENTS]
    plain, ours = PlainMixing(raw), MixingModel.train(DOCUMENTS)
    shown = {text[max(0, i - n) : i] for text in raw for i in range(0, len(text), 3) for n in range(8)}
    texts = sorted(
        shown | {b"", b"zzz", b"(cat", b"[the", b"X\xff\xff", b"~", b"q~", b"~c", b"q", b"%cAt", b"qThen"}
    )
    contexts = packed(*texts)
    assert [unpack(int(one)) for one in ours.known(contexts)] == [plain.known(text) for text in texts]
    for text, sums in zip(texts, ours.cdf(contexts).tolist(), strict=True):
        assert sums == plain.sums(text), text


@given(st.lists(st.binary(max_size=40) | st.text("aAb. ", max_size=60), max_size=4), st.binary(max_size=7))
@settings(max_examples=25)
def test_any_texts_give_valid_sums_that_the_twin_gives_too(documents, context):
    raw = [text.encode() if isinstance(text, str) else text for text in documents]
    ours = MixingModel.train(documents)
    sums = ours.cdf(packed(context, b"a", b" a"))
    assert sums.dtype == np.int32
    assert (sums[:, 0] == 0).all()
    assert (sums[:, 256] == 65536).all()
    assert np.diff(sums).min() >= 1
    plain = PlainMixing(raw)
    assert sums.tolist() == [plain.sums(one) for one in (context, b"a", b" a")]


def test_what_counts_of_a_context_has_its_distribution_also_further_on(model):
    text = np.frombuffer(("".join(TEXTS[:4]) + " qqThe xyzzy (otherw").encode(), np.uint8)
    contexts = np.unique(contexts_before(text, np.array([0, len(text)]), 7))
    contexts = np.concatenate([contexts, packed(b'"otherw', b"~othe", b"zqthe", b"\0\0\0\0\0\0", b"qqqqqq")])
    known = model.known(contexts)
    assert (known < contexts).any()
    assert (model.known(known) == known).all()
    assert (model.cdf(known) == model.cdf(contexts)).all()
    longer = packed(*(unpack(int(one))[-6:] + b"e" for one in contexts))
    shorter = packed(*((unpack(int(one)) + b"e")[-7:] for one in known))
    assert (model.known(longer) == model.known(shorter)).all()


def test_a_word_counts_whatever_stands_before_it_and_however_it_is_written():
    folded = folded_bytes()
    same = [int(word_of(np.uint64(pack(text)), folded)) for text in (b" the", b'"The', b"a.tHE", b"\nTHE")]
    assert set(same) == {0x2_20_74_68_65}
    for nothing in (b"", b"the", b" ", b"the ", b"a1"):
        assert word_of(np.uint64(pack(nothing)), folded) == 0, nothing


def test_it_predicts_held_out_text_better_than_counts_alone(model):
    """Behind seven bytes: there the weights matter most. The texts are others than those it was trained on."""
    from pydoc_data.topics import topics

    text = np.frombuffer("".join(one for _, one in sorted(topics.items())[40:])[:60_000].encode(), np.uint8)
    contexts = contexts_before(text, np.array([0, len(text)]), 6)
    bits = {}
    for name, one in (("mixing", model), ("ngram", NgramModel.train(TEXTS))):
        shares = np.diff(one.cdf(contexts))[np.arange(len(text)), text]
        bits[name] = -np.log2(shares / 65536).mean()
    assert bits["mixing"] < bits["ngram"] - 0.02, bits


def test_training_twice_gives_the_same_model_and_other_text_another(model):
    assert MixingModel.train(TEXTS).fingerprint == model.fingerprint
    assert MixingModel.train(TEXTS[:-1]).fingerprint != model.fingerprint


def test_golden_numbers():
    """What is built from the same text stays the same on every machine: a change of these is a new version of the model."""
    small = MixingModel.train(DOCUMENTS)
    assert np.diff(small.cdf(packed(b" the"))).max() == GOLDEN["largest share"]
    assert small.fingerprint[:16] == GOLDEN["fingerprint"]


def test_logarithms_and_classes_of_counts():
    counts = np.arange(4096)
    assert np.abs(log_table() - 256 * np.log(2 * counts + 1)).max() <= 0.5
    for count in (4095, 4096, 5000, 1 << 20, (1 << 32) - 1):
        assert _log(count, log_table()) == pytest.approx(256 * np.log(2 * count + 1), abs=2)
    firsts = [int(np.argmax(size_classes() == size)) for size in range(15)]
    assert firsts == [0, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512, 1024, 2048]


def test_few_contexts_are_kept_if_few_may_be(model):
    few = MixingModel.train(TEXTS, most_contexts=500)
    assert few._plain <= 500
    assert np.diff(few.cdf(packed(b"", b"the", b" functi"))).min() >= 1
    assert few._plain < model._plain


def test_a_saved_model_gives_the_same_numbers(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    contexts = packed(b"", b"on", b"the tim", b"\xff")
    assert isinstance(again, MixingModel)
    assert again.fingerprint == model.fingerprint
    assert (again.cdf(contexts) == model.cdf(contexts)).all()
    assert (again.known(contexts) == model.known(contexts)).all()


def test_files_that_are_no_such_model_are_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"no such thing")
    with pytest.raises(TokenizeError, match="cannot be read as a mixing model"):
        MixingModel.load(file)
    NgramModel.train(TEXTS[:2]).save(file)
    with pytest.raises(TokenizeError, match="cannot be read as a mixing model"):
        MixingModel.load(file)
    assert isinstance(load_model(file), NgramModel)


@pytest.mark.parametrize("damage", ["starts", "following", "weights", "plain", "no plain", "contexts"])
def test_a_damaged_file_is_refused(damage, tmp_path):
    small = MixingModel.train(DOCUMENTS)
    contexts, starts, following, counts = (array.copy() for array in small._arrays)
    weights, plain = small._weights, small._plain
    if damage == "starts":
        starts[3] = 1 << 40
    elif damage == "following":
        following = following[:-1]
    elif damage == "weights":
        weights = weights[1:]
    elif damage == "plain":
        plain = len(contexts) + 1
    elif damage == "no plain":
        plain = None
    else:
        contexts[[1, 2]] = contexts[[2, 1]]
    MixingModel(contexts, starts, following, counts, weights, plain).save(tmp_path / "model.safetensors")
    with pytest.raises(TokenizeError, match="is damaged: train the model again"):
        MixingModel.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("carry", [0, 1])
def test_a_code_is_built_by_it(model, carry):
    code = EqualInfoTokenizer.train(TEXTS, bits=10, carry=carry, model=model, threads=1)
    odd = [b"", b"\xff\0" * 50, bytes(range(256)), *itertools.islice(TEXTS, 5)]
    assert code.decode(code.encode(odd)) == [one.encode() if isinstance(one, str) else one for one in odd]
    report = measure_code(code, TEXTS[:3], model)
    assert report.failures == 0
    assert 0.5 < report.model_bits_per_byte < 5


GOLDEN = {"largest share": 31792, "fingerprint": "3bd6c0f02b180508"}
