"""The transformer behind a code: numbers from its logits, pieces inside documents, files, and a code built by it."""

import numpy as np
import pytest
import torch
from codes import TEXTS

from tersely.compress import EqualInfoTokenizer
from tersely.compress.equal_info.contexts import LONGEST, contexts_before, pack, shorter
from tersely.compress.equal_info.models import NgramModel, load_model
from tersely.compress.equal_info.models.neural import NeuralModel, _loss
from tersely.compress.equal_info.report import measure_code
from tersely.errors import TokenizeError


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small products wait for each other's threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return NeuralModel.train(TEXTS, steps=40, batch=64, device="cpu")


def test_contexts_of_all_lengths_are_those_of_the_text():
    text = b"\0abcdefghijkl\0\xff\xff\0mnop"
    for longest in range(LONGEST + 1):
        found = contexts_before(np.frombuffer(text, np.uint8), np.array([0, 5, len(text)]), longest)
        begins = [0] * 5 + [5] * (len(text) - 5)
        assert found.tolist() == [pack(text[max(begin, i - longest) : i]) for i, begin in enumerate(begins)]
    for given in (b"a", b"\0\0", b"abcdef", b"abcdefg", b"\xff" * 7, b"\0" * 7):
        assert int(shorter(np.uint64(pack(given)))) == pack(given[1:])


def test_sums_are_those_of_its_logits(model):
    texts = [b"", b"t", b"th", b"the cap", b"\xff\0"]
    sums = model.cdf(np.array([pack(text) for text in texts], np.uint64))
    assert sums.dtype == np.int32
    assert (sums[:, 0] == 0).all()
    assert (sums[:, 256] == 65536).all()
    assert np.diff(sums).min() >= 1
    for text, row in zip(texts, sums, strict=True):
        with torch.no_grad():
            logits = model._network(torch.tensor([[256, *text]]))[0, -1]
        assert np.diff(row) == pytest.approx(logits.softmax(0).numpy() * (65536 - 256) + 1, abs=1.01)


def test_it_learns():
    losses = []
    text = torch.from_numpy(np.frombuffer(b"ab" * 500, np.uint8).copy())
    ends = torch.full((1000,), 1000)
    for steps in (1, 30):
        network = NeuralModel.train(["ab" * 500], steps=steps, batch=32, device="cpu")._network
        losses.append(_loss(network, text, ends, torch.arange(900)).item())
    assert losses[1] < 0.5 < losses[0]


def test_no_piece_reaches_over_the_end_of_its_document(model):
    """The loss of a document does not depend on what comes behind it."""
    network = model._network
    starts = torch.arange(5)
    losses = [
        _loss(network, torch.tensor([*b"hello", *rest]), torch.tensor([5] * 5 + [15] * 10), starts).item()
        for rest in (b"0123456789", b"abcdefghij")
    ]
    assert losses[0] == losses[1]


def test_a_saved_model_gives_the_same_numbers(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    contexts = np.array([pack(b"on"), pack(b"the time"), 1], np.uint64)
    assert again.fingerprint == model.fingerprint
    assert isinstance(again, NeuralModel)
    assert (again.cdf(contexts) == model.cdf(contexts)).all()
    (tmp_path / "model.safetensors").write_bytes(b"no such thing")
    with pytest.raises(TokenizeError, match="cannot be read as a model"):
        load_model(tmp_path / "model.safetensors")
    NgramModel.train(TEXTS[:2]).save(tmp_path / "counted")
    with pytest.raises(TokenizeError, match="cannot be read as a neural model"):
        NeuralModel.load(tmp_path / "counted")
    assert isinstance(load_model(tmp_path / "counted"), NgramModel)


def test_a_code_is_built_by_it(model):
    code = EqualInfoTokenizer.train(TEXTS, bits=9, model=model, threads=1)
    assert code.decode(code.encode(TEXTS)) == [text.encode() for text in TEXTS]
    report = measure_code(code, TEXTS[:3], model)
    assert report.failures == 0
    assert report.live_ids == 511
    assert 2 < report.model_bits_per_byte < 8


def test_training_needs_text():
    with pytest.raises(TokenizeError, match="no text to learn from"):
        NeuralModel.train([""], steps=1)
